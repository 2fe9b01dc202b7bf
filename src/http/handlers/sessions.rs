//! `GET /auth/sessions`, `DELETE /auth/sessions/{id}`, `POST /auth/signout-all`, `POST /auth/password`

use crate::{
    auth::PasswordChange,
    domain::{Password, Session, SessionId},
    http::{
        State,
        connection::ClientConnection,
        extract::{Bearer, BearerBody, MemberFaults, Members, Source},
        problem::{Code, Problem},
        refusals::{BEARER, BODY, DATABASE, refusals},
    },
};
use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use deserr::Deserr;
use serde::Serialize;
use utoipa::ToSchema;

/// A live session.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionResponse {
    #[schema(example = "5f0c3f8e9b1d4c6aa2e7d8b9c0f1e2d3")]
    id: String,
    #[schema(format = DateTime, example = "2026-11-22T14:28:53Z")]
    created_at: String,
    #[schema(format = DateTime, example = "2026-11-22T14:28:53Z")]
    last_used_at: String,
    #[schema(format = DateTime, example = "2026-11-23T14:28:53Z")]
    expires_at: String,
    /// The header `User-Agent` of the sign-in.
    #[schema(required)]
    user_agent: Option<String>,
    #[schema(required, example = "192.0.2.1")]
    ip: Option<String>,
    /// Whether it is the session of this request.
    current: bool,
}

impl SessionResponse {
    fn new(session: Session, current: SessionId) -> Self {
        Self {
            current: session.id == current,
            id: session.id.to_string(),
            created_at: session.created_at.to_string(),
            last_used_at: session.last_used_at.to_string(),
            expires_at: session.expires_at.to_string(),
            user_agent: session.user_agent,
            ip: session.ip,
        }
    }
}

refusals!(ListRefusals = BEARER, DATABASE);

/// List the caller's sessions.
#[utoipa::path(
    get, path = "/auth/sessions", tag = "User and Access", operation_id = "sessions", security(("bearer" = [])),
    responses((status = 200, description = "The live sessions, the newest first.", body = Vec<SessionResponse>), ListRefusals)
)]
pub async fn list(state: Data<State>, Bearer(caller): Bearer) -> Result<HttpResponse, Problem> {
    let sessions = state.auth.list_sessions(&caller, state.clock.now()).await?;
    let sessions = sessions.into_iter().map(|session| SessionResponse::new(session, caller.session));
    Ok(HttpResponse::Ok().json(sessions.collect::<Vec<_>>()))
}

refusals!(EndRefusals = BEARER, DATABASE, &[Code::NOT_FOUND]);

/// End one of the caller's sessions.
#[utoipa::path(
    delete, path = "/auth/sessions/{id}", tag = "User and Access", operation_id = "end_session",
    params(("id" = String, Path, description = "The session's id.")), security(("bearer" = [])),
    responses((status = 204, description = "The session has ended."), EndRefusals)
)]
pub async fn end(
    state: Data<State>,
    Bearer(caller): Bearer,
    source: Source,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = SessionId::parse(&id).ok_or(Problem::Plain(Code::NOT_FOUND))?;
    state.auth.end_session(&caller, id, &source.at(state.clock.now())).await?;
    Ok(HttpResponse::NoContent().finish())
}

refusals!(SignOutAllRefusals = BEARER, DATABASE);

/// Sign out everywhere: end every session of the caller, but no API key.
#[utoipa::path(
    post, path = "/auth/signout-all", tag = "User and Access", operation_id = "signout_all", security(("bearer" = [])),
    responses((status = 204, description = "Every session has ended."), SignOutAllRefusals)
)]
pub async fn signout_all(state: Data<State>, Bearer(caller): Bearer, source: Source) -> Result<HttpResponse, Problem> {
    state.auth.sign_out_everywhere(&caller, &source.at(state.clock.now())).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The current password and the new one.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[schema(
    example = json!({"current_password": "correct horse battery", "new_password": "correct horse battery staple"})
)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    #[deserr(from(&String) = Password::attempt)]
    #[schema(value_type = String)]
    current_password: Password,
    /// Counted in characters, after NFC.
    #[schema(value_type = String, min_length = 8, max_length = 256, pattern = r"^[^\x00]*$")]
    new_password: Password,
}

impl Members for PasswordRequest {}

refusals!(
    PasswordRefusals = BODY,
    BEARER,
    DATABASE,
    &[Code::RATE_LIMITED, Code::WEAK_PASSWORD, Code::INVALID_CREDENTIALS, Code::OVERLOADED]
);

/// Change the caller's password, and end every other session of the caller, but no API key.
#[utoipa::path(
    post, path = "/auth/password", tag = "User and Access", operation_id = "change_password",
    security(("bearer" = [])), request_body = PasswordRequest,
    responses((status = 204, description = "The password is changed."), PasswordRefusals)
)]
pub async fn change_password(
    state: Data<State>,
    client: ClientConnection,
    source: Source,
    BearerBody(caller, body): BearerBody<PasswordRequest>,
) -> Result<HttpResponse, Problem> {
    let change = PasswordChange { current: body.current_password, new: body.new_password };
    let context = source.at(state.clock.now());
    client.cancel_on_disconnect(state.auth.change_password(&caller, change, &context)).await??;
    Ok(HttpResponse::NoContent().finish())
}
