//! `POST /auth/signin`

use super::token_names::with_token_names;
use crate::{
    auth::{AuthError, Client, SignIn},
    domain::{LoginName, Password},
    http::{
        State,
        connection::{ClientConnection, Disconnected},
        extract::{Body, FromJson, JsonFields, Rejected},
        problem::Problem,
    },
};
use actix_web::{HttpResponse, web::Data};
use serde::Serialize;
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

impl FromJson for SignIn {
    fn from_json(members: &mut JsonFields) -> Result<Self, Rejected> {
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
    Ok(with_token_names(&state, &reply))
}
