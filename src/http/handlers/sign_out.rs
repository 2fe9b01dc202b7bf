//! `POST /auth/signout`

use super::refresh::RefreshRequest;
use crate::http::{
    State,
    extract::{Body, Source},
    problem::{Code, Problem},
    refusals::{BODY, DATABASE, refusals},
};
use actix_web::{HttpResponse, web::Data};

refusals!(SignOutRefusals = BODY, DATABASE, &[Code::INVALID_TOKEN]);

/// End the session of a refresh token, and with it all of its tokens.
#[utoipa::path(
    post, path = "/auth/signout", tag = "User and Access", operation_id = "signout",
    request_body = RefreshRequest, responses((status = 204, description = "The session has ended, by this request or earlier."), SignOutRefusals)
)]
pub async fn signout(
    state: Data<State>,
    source: Source,
    Body(request): Body<RefreshRequest>,
) -> Result<HttpResponse, Problem> {
    state.auth.sign_out(&request.refresh_token, &source.at(state.clock.now())).await?;
    Ok(HttpResponse::NoContent().finish())
}
