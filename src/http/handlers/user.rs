//! `GET`, `PATCH`, `DELETE /auth/users/{id}`, `PUT …/password`, `DELETE …/sessions`: staff manage a user.

use super::users::UserResponse;
use crate::{
    auth::{Caller, Staff, Superuser, UserUpdate},
    domain::{Name, Password, User, UserId},
    http::{
        State,
        connection::ClientConnection,
        extract::{Bearer, BearerBody, Claims, IfMatchHeader, MemberFaults, Members, Source, etag},
        problem::{Code, Problem},
        refusals::{BEARER, BODY, DATABASE, refusals},
    },
};
use actix_web::{
    HttpResponse,
    http::header,
    web::{Data, Path},
};
use deserr::Deserr;
use utoipa::ToSchema;

/// Changes to a user. An absent member stays as it is.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[schema(example = json!({"is_active": false}))]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// The account's own e-mail, or letters, marks, digits and `.+-_`.
    #[deserr(default)]
    #[schema(
        min_length = 1,
        max_length = 254,
        pattern = r"^([\p{L}\p{N}.+_-][\p{L}\p{M}\p{N}.+_-]{0,149}|[^@]+@[^@]+)$"
    )]
    username: Option<String>,
    #[deserr(default)]
    #[schema(value_type = Option<String>, max_length = 150, pattern = r"^([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|[\u200c\u200d])*$")]
    first_name: Option<Name>,
    #[deserr(default)]
    #[schema(value_type = Option<String>, max_length = 150, pattern = r"^([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|[\u200c\u200d])*$")]
    last_name: Option<Name>,
    /// `false` ends every session and API key of the user.
    #[deserr(default)]
    is_active: Option<bool>,
    #[deserr(default)]
    is_verified: Option<bool>,
    /// For superusers.
    #[deserr(default)]
    is_staff: Option<bool>,
    /// For superusers.
    #[deserr(default)]
    is_superuser: Option<bool>,
    /// For superusers: the claims that the user's access tokens have in addition, as a whole; at most 4 KiB.
    #[deserr(default)]
    #[schema(value_type = Option<Object>, example = json!({"plan": "pro"}))]
    claims: Option<Claims>,
}

impl Members for UserRequest {}

impl From<UserRequest> for UserUpdate {
    fn from(request: UserRequest) -> Self {
        Self {
            email: None,
            username: request.username,
            first_name: request.first_name,
            last_name: request.last_name,
            is_active: request.is_active,
            is_staff: request.is_staff,
            is_superuser: request.is_superuser,
            is_verified: request.is_verified,
            claims: request.claims.map(|Claims(claims)| claims),
        }
    }
}

/// Parses the id of a path. What cannot be an id names no user.
fn parse(id: &str) -> Result<UserId, Problem> {
    UserId::parse(id).ok_or(Problem::Plain(Code::NOT_FOUND))
}

/// A user with its version.
fn reply(state: &State, user: User, staff: &Caller) -> HttpResponse {
    let version = etag(&state.auth.version(&user));
    HttpResponse::Ok().insert_header((header::ETAG, version)).json(UserResponse::for_staff(user, staff))
}

refusals!(GetRefusals = BEARER, DATABASE, &[Code::FORBIDDEN, Code::NOT_FOUND]);

/// One user, for staff.
#[utoipa::path(
    get, path = "/auth/users/{id}", tags = ["User and Access", "Administration"], operation_id = "user",
    params(("id" = i64, Path, description = "The user's id.", minimum = 0, example = 1)), security(("bearer" = [])),
    responses((
        status = 200, description = "The user.", body = UserResponse,
        headers(("ETag" = String, description = "The version of the user, for `If-Match`."))
    ), GetRefusals)
)]
pub async fn user(state: Data<State>, Bearer(staff): Bearer<Staff>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let user = state.auth.user(&staff, parse(&id)?).await?;
    Ok(reply(&state, user, &staff))
}

refusals!(
    UpdateRefusals = BODY,
    BEARER,
    DATABASE,
    &[
        Code::FORBIDDEN,
        Code::NOT_FOUND,
        Code::USERNAME_TAKEN,
        Code::LAST_SUPERUSER,
        Code::PRECONDITION_FAILED,
        Code::RATE_LIMITED
    ]
);

/// Change a user.
///
/// Staff may not change staff or superusers, themselves included; superusers may. With `If-Match`, which takes the
/// `ETag` of the user, a change of another administrator in between is not lost.
#[utoipa::path(
    patch, path = "/auth/users/{id}", tags = ["User and Access", "Administration"], operation_id = "update_user",
    params(
        ("id" = i64, Path, description = "The user's id.", minimum = 0, example = 1),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the user that the client has read.",
            pattern = r#"^([*]|"[!#-~]*")$"#)
    ),
    security(("bearer" = [])), request_body = UserRequest,
    responses((
        status = 200, description = "The user, with the changes.", body = UserResponse,
        headers(("ETag" = String, description = "The new version of the user."))
    ), UpdateRefusals)
)]
pub async fn update(
    state: Data<State>,
    source: Source,
    if_match: IfMatchHeader,
    id: Path<String>,
    BearerBody(staff, body): BearerBody<UserRequest, Staff>,
) -> Result<HttpResponse, Problem> {
    let (id, context) = (parse(&id)?, source.at(state.clock.now()));
    let if_match = if_match.parse()?;
    let is_expected = |version: &str| if_match.allows(version);
    let user = state.auth.update_user(&staff, id, body.into(), &is_expected, &context).await?;
    Ok(reply(&state, user, &staff))
}

refusals!(
    DeleteRefusals = BEARER,
    DATABASE,
    &[Code::INVALID_REQUEST, Code::FORBIDDEN, Code::NOT_FOUND, Code::LAST_SUPERUSER, Code::PRECONDITION_FAILED]
);

/// Delete a user with all sessions and API keys.
#[utoipa::path(
    delete, path = "/auth/users/{id}", tags = ["User and Access", "Administration"], operation_id = "delete_user",
    params(
        ("id" = i64, Path, description = "The user's id.", minimum = 0, example = 1),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the user that the client has read.",
            pattern = r#"^([*]|"[!#-~]*")$"#)
    ),
    security(("bearer" = [])),
    responses((status = 204, description = "The user is deleted."), DeleteRefusals)
)]
pub async fn delete(
    state: Data<State>,
    Bearer(staff): Bearer<Staff>,
    source: Source,
    if_match: IfMatchHeader,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let if_match = if_match.parse()?;
    let is_expected = |version: &str| if_match.allows(version);
    state.auth.delete_user(&staff, parse(&id)?, &is_expected, &source.at(state.clock.now())).await?;
    Ok(HttpResponse::NoContent().finish())
}

refusals!(EndSessionsRefusals = BEARER, DATABASE, &[Code::FORBIDDEN, Code::NOT_FOUND]);

/// Sign a user out everywhere: end every session and API key of the user.
#[utoipa::path(
    delete, path = "/auth/users/{id}/sessions", tags = ["User and Access", "Administration"],
    operation_id = "end_user_sessions",
    params(("id" = i64, Path, description = "The user's id.", minimum = 0, example = 1)), security(("bearer" = [])),
    responses((status = 204, description = "Every session has ended."), EndSessionsRefusals)
)]
pub async fn end_sessions(
    state: Data<State>,
    Bearer(staff): Bearer<Staff>,
    source: Source,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    state.auth.end_sessions_of(&staff, parse(&id)?, &source.at(state.clock.now())).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A new password for a user.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[schema(example = json!({"new_password": "correct horse battery staple"}))]
#[serde(deny_unknown_fields)]
pub struct NewPasswordRequest {
    /// Counted in characters, after NFC.
    #[schema(value_type = String, min_length = 8, max_length = 256, pattern = r"^[^\x00]*$")]
    new_password: Password,
}

impl Members for NewPasswordRequest {}

refusals!(
    SetPasswordRefusals = BODY,
    BEARER,
    DATABASE,
    &[Code::FORBIDDEN, Code::NOT_FOUND, Code::WEAK_PASSWORD, Code::OVERLOADED]
);

/// Set the password of a user, and end every session and API key of the user. For superusers.
#[utoipa::path(
    put, path = "/auth/users/{id}/password", tags = ["User and Access", "Administration"],
    operation_id = "set_user_password",
    params(("id" = i64, Path, description = "The user's id.", minimum = 0, example = 1)), security(("bearer" = [])),
    request_body = NewPasswordRequest,
    responses((status = 204, description = "The password is set."), SetPasswordRefusals)
)]
pub async fn set_password(
    state: Data<State>,
    client: ClientConnection,
    source: Source,
    id: Path<String>,
    BearerBody(superuser, body): BearerBody<NewPasswordRequest, Superuser>,
) -> Result<HttpResponse, Problem> {
    let (id, context) = (parse(&id)?, source.at(state.clock.now()));
    let set = state.auth.set_password_of(&superuser, id, body.new_password, &context);
    client.cancel_on_disconnect(set).await??;
    Ok(HttpResponse::NoContent().finish())
}
