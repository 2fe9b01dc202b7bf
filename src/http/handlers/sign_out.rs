//! `POST /auth/signout`

use super::refresh::RefreshRequest;
use crate::http::{State, extract::Body, problem::Problem};
use actix_web::{HttpResponse, web::Data};

/// End the session of a refresh token: its refresh and access tokens.
#[utoipa::path(
    post, path = "/auth/signout", tag = "User and Access", operation_id = "signout",
    request_body = RefreshRequest, responses((status = 204, description = "The session has ended, now or before."))
)]
pub async fn signout(state: Data<State>, Body(request): Body<RefreshRequest>) -> Result<HttpResponse, Problem> {
    state.auth.sign_out(&request.refresh_token, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}
