//! `GET /auth/verify`, for proxies that authorize requests to other services

use crate::{
    domain::Role,
    http::{
        State,
        extract::presented,
        problem::Problem,
        refusals::{BEARER, refusals},
    },
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// Characters that are percent-encoded, because programs that read the header split or unquote it.
const NOT_PLAIN: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%').add(b',').add(b';');

refusals!(VerifyRefusals = BEARER);

/// Verify an access token.
///
/// For `auth_request` of nginx and forward-auth of Traefik and Caddy. The service answers from memory: username and roles
/// are those of the last sign-in or refresh.
#[utoipa::path(
    get, path = "/auth/verify", tag = "User and Access", operation_id = "verify", security(("bearer" = [])),
    responses((status = 204, description = "The token is valid.", headers(
        ("X-Auth-Subject" = String, description = "The user's id, which never changes."),
        ("Remote-User" = String, description = "The username; characters that are special in headers are percent-encoded."),
        ("Remote-Groups" = String, description = "The roles, separated by commas; empty for none."),
    )), VerifyRefusals)
)]
pub async fn verify(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let token = state.auth.verify(presented(&request), state.clock.now())?;
    let roles: Vec<&str> = token.roles.iter().copied().map(Role::as_str).collect();
    Ok(HttpResponse::NoContent()
        .insert_header(("x-auth-subject", token.user.0))
        .insert_header(("remote-user", utf8_percent_encode(&token.username, NOT_PLAIN).to_string()))
        .insert_header(("remote-groups", roles.join(",")))
        .finish())
}
