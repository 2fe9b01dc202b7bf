//! `GET /auth/audit`

use crate::{
    auth::{AuthError, Superuser},
    domain::{AuditEntry, Invalid, Limit, UserId},
    http::{
        State,
        extract::{Bearer, MemberFaults, Members, read_query},
        problem::{Code, Problem},
        refusals::{BEARER, DATABASE, refusals},
    },
};
use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use deserr::Deserr;
use serde::Serialize;
use std::fmt;
use utoipa::{IntoParams, ToSchema};

/// An entry of the audit.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct AuditResponse {
    #[schema(example = 42)]
    id: i64,
    #[schema(format = DateTime, example = "2026-11-22T14:28:53Z")]
    at: String,
    #[schema(example = "signin")]
    action: String,
    #[schema(example = "ok")]
    outcome: String,
    /// The id of the user who did it. `null` for a client that had not signed in, and for a command of an operator.
    #[schema(required, example = 1)]
    actor: Option<i64>,
    /// The id of the user to whom it was done.
    #[schema(required, example = 1)]
    subject: Option<i64>,
    /// The address of the client.
    #[schema(required, example = "192.0.2.1")]
    ip: Option<String>,
    /// How many failures of one minute this entry stands for; 1 for everything else.
    #[schema(example = 1)]
    count: i64,
    #[schema(required, example = "5f0c3f8e9b1d4c6aa2e7d8b9c0f1e2d3")]
    request_id: Option<String>,
}

impl From<AuditEntry> for AuditResponse {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: entry.at.to_string(),
            action: entry.action,
            outcome: entry.outcome,
            actor: entry.actor.map(|user| user.0),
            subject: entry.subject.map(|user| user.0),
            ip: entry.ip,
            count: entry.count,
            request_id: entry.request_id,
        }
    }
}

/// One line for an operator.
impl fmt::Display for AuditResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |user: Option<i64>| user.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let Self { at, action, outcome, count, .. } = self;
        let (actor, subject, ip) = (id(self.actor), id(self.subject), self.ip.as_deref().unwrap_or("-"));
        write!(f, "{}  {at}  {action}  {outcome}  actor {actor}  subject {subject}  {ip}  x{count}", self.id)
    }
}

/// The query of the audit.
#[derive(Deserr, IntoParams)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// How many entries: 1 to 200; 50 by default.
    #[deserr(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<Limit>,
    /// Only entries of which this user is the actor or the subject.
    #[deserr(default)]
    #[param(value_type = Option<i64>, minimum = 0)]
    user: Option<String>,
    /// The id of the last entry of the previous page.
    #[deserr(default)]
    #[param(value_type = Option<i64>, minimum = 0)]
    after: Option<String>,
}

impl Members for AuditQuery {}

refusals!(AuditRefusals = BEARER, DATABASE, &[Code::INVALID_REQUEST, Code::FORBIDDEN]);

/// Read the audit.
#[utoipa::path(
    get, path = "/auth/audit", tags = ["User and Access", "Administration"], operation_id = "audit", params(AuditQuery),
    security(("bearer" = [])),
    responses((
        status = 200, description = "A page of the audit, the newest entry first.", body = Vec<AuditResponse>,
        headers(("Link" = String, description = "The next page, as `<…>; rel=\"next\"`; absent on the last one."))
    ), AuditRefusals)
)]
pub async fn audit(
    state: Data<State>,
    Bearer(caller): Bearer<Superuser>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let AuditQuery { limit, user, after } = read_query(&request)?;
    let id = |member, text: Option<&str>| {
        let id = text.map(|text| UserId::parse(text).ok_or(Invalid("must be an id: digits without leading zeros")));
        id.transpose().map_err(|fault| AuthError::InvalidMember(member, fault))
    };
    let (of_user, limit) = (id("/user", user.as_deref())?, limit.unwrap_or_default());
    let before = id("/after", after.as_deref())?.map_or(i64::MAX, |id| id.0);
    let page = state.auth.audit(&caller, of_user, before, limit).await?;
    let mut response = HttpResponse::Ok();
    if let Some(last) = page.items.last().filter(|_| page.has_more) {
        let user = user.map(|user| format!("&user={user}")).unwrap_or_default();
        let next = format!("{}/auth/audit?limit={}{user}&after={}", state.base_path, limit.get(), last.id);
        response.insert_header((header::LINK, format!("<{next}>; rel=\"next\"")));
    }
    Ok(response.json(page.items.into_iter().map(AuditResponse::from).collect::<Vec<_>>()))
}
