//! Where one is signed in, and the password that guards it.

use crate::{
    auth::PasswordChange,
    domain::{Password, Session, SessionId},
    http::{
        State,
        connection::ClientConnection,
        extract::{Bearer, BearerBody, FromJson, JsonFields, Rejected},
        problem::Problem,
    },
};
use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use serde::Serialize;
use utoipa::ToSchema;

/// A session that is alive.
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
    /// What the program that signed in called itself.
    #[schema(required)]
    user_agent: Option<String>,
    #[schema(required, example = "192.0.2.1")]
    ip: Option<String>,
    /// Whether it is the one that asks.
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

/// List the caller's sessions.
#[utoipa::path(
    get, path = "/auth/sessions", tag = "User and Access", operation_id = "sessions", security(("bearer" = [])),
    responses((status = 200, description = "The sessions that are alive, the newest first.", body = Vec<SessionResponse>))
)]
pub async fn list(state: Data<State>, Bearer(caller): Bearer) -> Result<HttpResponse, Problem> {
    let sessions = state.auth.list_sessions(&caller, state.clock.now()).await?;
    let sessions = sessions.into_iter().map(|session| SessionResponse::new(session, caller.session));
    Ok(HttpResponse::Ok().json(sessions.collect::<Vec<_>>()))
}

/// End one of the caller's sessions.
#[utoipa::path(
    delete, path = "/auth/sessions/{id}", tag = "User and Access", operation_id = "end_session",
    params(("id" = String, Path, description = "The session's id.")), security(("bearer" = [])),
    responses((status = 204, description = "It has ended."))
)]
pub async fn end(state: Data<State>, Bearer(caller): Bearer, id: Path<String>) -> Result<HttpResponse, Problem> {
    let id = SessionId::parse(&id).ok_or(Problem::NotFound)?;
    state.auth.end_session(&caller, id, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Sign out everywhere: end every session of the caller.
#[utoipa::path(
    post, path = "/auth/signout-all", tag = "User and Access", operation_id = "signout_all", security(("bearer" = [])),
    responses((status = 204, description = "Every session has ended."))
)]
pub async fn signout_all(state: Data<State>, Bearer(caller): Bearer) -> Result<HttpResponse, Problem> {
    state.auth.sign_out_everywhere(&caller, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The password that is, and the one that is to be.
#[derive(ToSchema)]
#[schema(
    as = PasswordRequest,
    example = json!({"current_password": "correct horse battery", "new_password": "correct horse battery staple"})
)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the shape for the OpenAPI document; what is read is `PasswordChange`")]
pub struct PasswordRequest {
    current_password: String,
    /// Counted in characters, after NFC.
    #[schema(min_length = 8, max_length = 256, pattern = r"^[^\x00]*$")]
    new_password: String,
}

impl FromJson for PasswordChange {
    fn from_json(members: &mut JsonFields) -> Result<Self, Rejected> {
        let current = members.required("current_password", |text| Ok(Password::attempt(text)));
        let new = members.required("new_password", Password::parse);
        Ok(Self { current: current?, new: new? })
    }
}

/// Change the caller's password, and end every other session of the caller.
#[utoipa::path(
    post, path = "/auth/password", tag = "User and Access", operation_id = "change_password",
    security(("bearer" = [])), request_body = PasswordRequest,
    responses((status = 204, description = "The new password holds."))
)]
pub async fn change_password(
    state: Data<State>,
    client: ClientConnection,
    BearerBody(caller, change): BearerBody<PasswordChange>,
) -> Result<HttpResponse, Problem> {
    client.cancel_on_disconnect(state.auth.change_password(&caller, change, state.clock.now())).await??;
    Ok(HttpResponse::NoContent().finish())
}
