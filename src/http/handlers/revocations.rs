//! `GET /auth/revocations`

use crate::{
    auth::AuthError,
    domain::{FeedPage, FeedRow, Invalid},
    http::{
        State,
        connection::ClientConnection,
        extract::{BasicClient, MemberFaults, Members, read_query},
        problem::{Code, Problem},
        refusals::{DATABASE, refusals},
    },
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use deserr::Deserr;
use serde::Serialize;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// The longest wait for a new revocation, in seconds.
const MAX_WAIT: u64 = 30;

/// A page of the feed.
#[derive(Serialize, ToSchema)]
#[schema(as = Revocations)]
pub struct RevocationsResponse {
    /// The id of this feed. Another id means that the feed was reset.
    #[schema(example = "5f0c3f8e9b1d4c6aa2e7d8b9c0f1e2d3")]
    feed: String,
    revocations: Vec<RevocationResponse>,
    /// The `after` of the next request.
    #[schema(example = 42)]
    next: i64,
}

/// Every token whose claim `claim` has the value `value` is revoked.
#[derive(Serialize, ToSchema)]
#[schema(as = Revocation)]
pub struct RevocationResponse {
    #[schema(example = 42)]
    seq: i64,
    /// `sid` (the session or the API key of the token) or `jti` (the token itself).
    #[schema(example = "sid")]
    claim: String,
    #[schema(example = "5f0c3f8e9b1d4c6aa2e7d8b9c0f1e2d3")]
    value: String,
    /// The time at which every token that it revokes has expired.
    #[schema(format = DateTime, example = "2026-11-22T14:28:53Z")]
    expires_at: String,
}

impl From<&FeedRow> for RevocationResponse {
    fn from(row: &FeedRow) -> Self {
        Self {
            seq: row.seq,
            claim: row.claim.clone(),
            value: row.value.clone(),
            expires_at: row.expires_at.to_string(),
        }
    }
}

impl From<&FeedPage> for RevocationsResponse {
    fn from(page: &FeedPage) -> Self {
        let revocations = page.revocations.iter().map(RevocationResponse::from).collect();
        Self { feed: page.feed.simple().to_string(), revocations, next: page.next }
    }
}

/// The position of a reader in the feed.
#[derive(Deserr, IntoParams)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[into_params(parameter_in = Query)]
pub struct RevocationsQuery {
    /// `next` of the previous reply; 0 in the first request.
    #[deserr(default)]
    #[param(value_type = Option<i64>, minimum = 0)]
    after: Option<String>,
    /// `feed` of the previous reply.
    #[deserr(default)]
    feed: Option<String>,
    /// How many seconds to wait if there is no new revocation.
    #[deserr(default)]
    #[param(value_type = Option<u64>, minimum = 0, maximum = 30)]
    wait: Option<String>,
}

impl Members for RevocationsQuery {}

refusals!(
    RevocationsRefusals = DATABASE,
    &[Code::INVALID_REQUEST, Code::INVALID_CREDENTIALS, Code::FEED_RESET, Code::RATE_LIMITED]
);

/// Read which sessions have ended and which tokens were revoked. For clients that verify access tokens themselves.
#[utoipa::path(
    get, path = "/auth/revocations", tag = "User and Access", operation_id = "list_revocations", params(RevocationsQuery),
    security(("client" = [])),
    responses((
        status = 200, description = "At most 1,000 revocations, unless one `seq` has more, ordered by `seq`.",
        body = RevocationsResponse
    ), RevocationsRefusals)
)]
pub async fn revocations(
    state: Data<State>,
    connection: ClientConnection,
    _client: BasicClient,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let RevocationsQuery { after, feed, wait } = read_query(&request)?;
    let after = after.map_or(Ok(0), |text| number(&text, i64::MAX.unsigned_abs(), "/after"))?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let wait = wait.map_or(Ok(0), |text| number(&text, MAX_WAIT, "/wait"))?;
    // A text that is not a UUID cannot be the id of this feed.
    let feed = feed.map(|feed| Uuid::try_parse(&feed).map_err(|_| AuthError::FeedReset)).transpose()?;
    // The wait also ends when the client closes its side of the connection.
    let end_of_wait = async {
        tokio::select! {
            () = state.stopped() => {}
            () = connection.closed() => {}
        }
    };
    let page = state.auth.revocations(feed, after, Duration::from_secs(wait), end_of_wait).await?;
    Ok(HttpResponse::Ok().json(RevocationsResponse::from(&*page)))
}

/// A number up to `max`, written with digits only.
fn number(text: &str, max: u64, member: &'static str) -> Result<u64, AuthError> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_digits { text.parse().ok() } else { None };
    let fault =
        if max == MAX_WAIT { "must be a number of seconds from 0 to 30" } else { "must be a number, at least 0" };
    number.filter(|number| *number <= max).ok_or(AuthError::InvalidMember(member, Invalid(fault)))
}
