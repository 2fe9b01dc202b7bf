//! Signing in, refreshing, signing out.

use super::{
    State,
    body::{Body, FromMembers, Members, Noted},
    connection::{ClientConnection, Disconnected},
    error::Problem,
};
use crate::{
    auth::{AuthError, Client, RefreshKind, Refreshed, SignIn},
    domain::{LoginName, Password},
};
use actix_web::{HttpResponse, web::Data};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Credentials: `email` or `username`, one of them.
#[derive(ToSchema)]
#[schema(as = SignInRequest, example = json!({"email": "ann@example.com", "password": "correct horse battery"}))]
#[serde(untagged)]
#[expect(dead_code, reason = "the shape for the OpenAPI document; what is read is `SignIn`")]
pub enum SignInRequest {
    Email(EmailSignInRequest),
    Username(UsernameSignInRequest),
}

/// Credentials with the e-mail of the account.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the shape for the OpenAPI document; what is read is `SignIn`")]
pub struct EmailSignInRequest {
    email: String,
    password: String,
}

/// Credentials with the username of the account.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the shape for the OpenAPI document; what is read is `SignIn`")]
pub struct UsernameSignInRequest {
    username: String,
    password: String,
}

impl FromMembers for SignIn {
    fn from_members(members: &mut Members) -> Result<Self, Noted> {
        let has_both = members.has("email") && members.has("username");
        let email = members.optional("email", |text| Ok(LoginName::email(text)));
        let username = members.optional("username", |text| Ok(LoginName::username(text)));
        let password = members.required("password", |text| Ok(Password::attempt(text)));
        let login = match (email?, username?) {
            _ if has_both => return Err(members.fault("username", "must not be given together with email")),
            (Some(login), _) | (None, Some(login)) => login,
            (None, None) => return Err(members.fault("email", "is missing; email or username is needed")),
        };
        Ok(Self { login, password: password? })
    }
}

/// A refresh token, as it was answered.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    refresh_token: String,
}

impl FromMembers for RefreshRequest {
    fn from_members(members: &mut Members) -> Result<Self, Noted> {
        let refresh_token = members.required("refresh_token", |text| Ok(text.to_owned()))?;
        Ok(Self { refresh_token })
    }
}

/// The tokens of a new session. Times are in seconds from now.
#[derive(Serialize, ToSchema)]
#[schema(as = TokenPair)]
pub struct TokenPairResponse {
    access_token: String,
    refresh_token: String,
    #[schema(example = "Bearer")]
    token_type: String,
    #[schema(example = 300)]
    expires_in: i64,
    #[schema(example = 86400)]
    refresh_expires_in: i64,
}

/// A new access token; where refresh tokens are rotated, also the one to use next. Times are in seconds from now.
#[derive(Serialize, ToSchema)]
#[schema(as = AccessToken)]
pub struct AccessTokenResponse {
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: String,
    #[schema(example = 300)]
    expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 86400)]
    refresh_expires_in: Option<i64>,
}

/// Writes a reply with the members that hold tokens named as the settings say.
fn with_names(state: &State, reply: &impl Serialize) -> HttpResponse {
    let Ok(Value::Object(members)) = serde_json::to_value(reply) else {
        return HttpResponse::InternalServerError().finish();
    };
    let rename = |(name, value): (String, Value)| match name.as_str() {
        "access_token" => (state.token_names.access.clone(), value),
        "refresh_token" => (state.token_names.refresh.clone(), value),
        _ => (name, value),
    };
    HttpResponse::Ok().json(members.into_iter().map(rename).collect::<Map<_, _>>())
}

/// Sign in with e-mail or username.
#[utoipa::path(
    post, path = "/auth/signin", tag = "User and Access", operation_id = "signin",
    request_body = SignInRequest, responses((status = 200, description = "Signed in.", body = TokenPairResponse))
)]
pub async fn signin(
    state: Data<State>,
    client: Client,
    connection: ClientConnection,
    Body(sign_in): Body<SignIn>,
) -> Result<HttpResponse, Problem> {
    let signed_in = connection.cancel_on_disconnect(state.auth.sign_in(sign_in, client, state.clock.now())).await;
    state.metrics.signed_in(match &signed_in {
        Ok(Ok(_)) => "ok",
        Ok(Err(AuthError::InvalidCredentials)) => "invalid",
        Ok(Err(AuthError::Overloaded)) => "overloaded",
        Ok(Err(_)) => "unavailable",
        Err(Disconnected) => "gone",
    });
    let pair = signed_in??;
    let reply = TokenPairResponse {
        access_token: pair.access_token,
        refresh_token: pair.refresh_token,
        token_type: state.token_type.clone(),
        expires_in: pair.expires_in.0,
        refresh_expires_in: pair.refresh_expires_in.0,
    };
    Ok(with_names(&state, &reply))
}

/// Get a new access token for a refresh token.
#[utoipa::path(
    post, path = "/auth/refresh-access", tag = "User and Access", operation_id = "refresh_access",
    request_body = RefreshRequest, responses((status = 200, description = "A new access token.", body = AccessTokenResponse))
)]
pub async fn refresh_access(state: Data<State>, Body(request): Body<RefreshRequest>) -> Result<HttpResponse, Problem> {
    let refreshed = state.auth.refresh(&request.refresh_token, state.clock.now()).await;
    state.metrics.refreshed(match &refreshed {
        Ok(Refreshed { kind: RefreshKind::Rotated, .. }) => "rotated",
        Ok(Refreshed { kind: RefreshKind::Repeated, .. }) => "repeated",
        Ok(Refreshed { kind: RefreshKind::Renewed, .. }) => "renewed",
        Err(AuthError::RefreshSuperseded) => "superseded",
        Err(AuthError::RefreshReused) => "reused",
        Err(AuthError::Unavailable(_) | AuthError::Internal(_)) => "unavailable",
        Err(_) => "invalid",
    });
    let refreshed = refreshed?;
    let (access_token, expires_in) = refreshed.access;
    let (refresh_token, refresh_expires_in) = refreshed.refresh.unzip();
    let reply = AccessTokenResponse {
        access_token,
        token_type: state.token_type.clone(),
        expires_in: expires_in.0,
        refresh_token,
        refresh_expires_in: refresh_expires_in.map(|length| length.0),
    };
    Ok(with_names(&state, &reply))
}

/// End the session of a refresh token: its refresh and access tokens.
#[utoipa::path(
    post, path = "/auth/signout", tag = "User and Access", operation_id = "signout",
    request_body = RefreshRequest, responses((status = 204, description = "The session has ended, now or before."))
)]
pub async fn signout(state: Data<State>, Body(request): Body<RefreshRequest>) -> Result<HttpResponse, Problem> {
    state.auth.sign_out(&request.refresh_token, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}
