//! `/auth/verify`, for proxies that authorize requests to other services

use crate::{
    domain::{Role, Subject},
    http::{
        State,
        extract::{MemberFaults, Members, presented, read_query},
        problem::{Code, Problem},
        refusals::{BEARER, refusals},
    },
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use deserr::Deserr;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use utoipa::IntoParams;

/// Characters that are percent-encoded, because programs that read the header split or unquote it.
const NOT_PLAIN: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%').add(b',').add(b';');

/// The query of a verification.
#[derive(Deserr, IntoParams, Default)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[into_params(parameter_in = Query)]
pub struct VerifyQuery {
    /// The audience that the token must have; by default that of Signet itself (`jwt.audience`).
    #[deserr(default)]
    audience: Option<String>,
}

impl Members for VerifyQuery {}

refusals!(VerifyRefusals = BEARER, &[Code::INVALID_REQUEST]);

/// Verify an access token.
///
/// For `auth_request` of nginx, forward-auth of Traefik and Caddy, and `ext_authz` of Envoy. Envoy sends the method of
/// the request that it authorizes, so this route answers every method. It does not read a body. The service answers
/// from memory: username and roles are those of the last sign-in or refresh.
#[utoipa::path(
    get, path = "/auth/verify", tag = "User and Access", operation_id = "verify", params(VerifyQuery),
    security(("bearer" = [])),
    responses((status = 200, description = "The token is valid.", headers(
        ("X-Auth-Subject" = String, description = "The user's id, which never changes, or the id of a client."),
        ("Remote-User" = String, description = "The username; characters that are special in headers are percent-encoded. Absent for a client."),
        ("Remote-Groups" = String, description = "The roles, separated by commas; empty for none. Absent for a client."),
    )), VerifyRefusals)
)]
pub async fn verify(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    // Without a query there is nothing to parse.
    let query = if request.query_string().is_empty() { VerifyQuery::default() } else { read_query(&request)? };
    let token = state.auth.verify(presented(&request), query.audience.as_deref(), state.clock.now())?;
    let mut response = HttpResponse::Ok();
    match token.subject {
        Subject::User { id, username, roles, .. } => {
            let roles: Vec<&str> = roles.iter().copied().map(Role::as_str).collect();
            response.insert_header(("x-auth-subject", id.0));
            response.insert_header(("remote-user", utf8_percent_encode(&username, NOT_PLAIN).to_string()));
            response.insert_header(("remote-groups", roles.join(",")));
        }
        Subject::Client(id) => {
            response.insert_header(("x-auth-subject", id.to_string()));
        }
    }
    Ok(response.finish())
}
