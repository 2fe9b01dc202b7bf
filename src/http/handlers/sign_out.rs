//! `POST /auth/signout`

use crate::http::{
    State,
    extract::{Body, MemberFaults, Members, Source},
    problem::{Code, Problem},
    refusals::{BODY, DATABASE, refusals},
};
use actix_web::{HttpResponse, web::Data};
use deserr::Deserr;
use utoipa::ToSchema;

/// A refresh token.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[serde(deny_unknown_fields)]
pub struct SignOutRequest {
    refresh_token: String,
}

impl Members for SignOutRequest {}

refusals!(SignOutRefusals = BODY, DATABASE, &[Code::INVALID_TOKEN]);

/// End the session of a refresh token, and with it all of its tokens.
#[utoipa::path(
    post, path = "/auth/signout", tag = "User and Access", operation_id = "signout",
    request_body = SignOutRequest, responses((status = 204, description = "The session has ended, by this request or earlier."), SignOutRefusals)
)]
pub async fn signout(
    state: Data<State>,
    source: Source,
    Body(request): Body<SignOutRequest>,
) -> Result<HttpResponse, Problem> {
    state.auth.sign_out(&request.refresh_token, &source.at(state.clock.now())).await?;
    Ok(HttpResponse::NoContent().finish())
}
