//! `POST /auth/signin`

use super::token_names::with_token_names;
use crate::{
    auth::{AuthError, SignIn, SignInSource},
    domain::{LoginName, Password},
    http::{
        State,
        connection::{ClientConnection, Disconnected},
        extract::{Body, MemberFaults, Members, Source, UserAgent, exactly_one},
        problem::{Code, MemberFault, Problem},
        refusals::{BODY, DATABASE, refusals},
    },
};
use actix_web::{HttpResponse, web::Data};
use deserr::Deserr;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Credentials: `email` or `username`, one of them.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[schema(example = json!({"email": "ann@example.com", "password": "correct horse battery"}))]
#[serde(deny_unknown_fields)]
pub struct SignInRequest {
    #[deserr(default)]
    email: Option<String>,
    #[deserr(default)]
    username: Option<String>,
    #[deserr(from(&String) = Password::attempt)]
    #[schema(value_type = String)]
    password: Password,
    /// The service that the access token is for.
    #[deserr(default)]
    #[schema(example = "https://orders.example.com")]
    audience: Option<String>,
}

impl Members for SignInRequest {
    /// Exactly one of `email` and `username` is given.
    fn check_together(members: &Map<String, Value>) -> Option<MemberFault> {
        exactly_one(members, ["email", "username"])
    }
}

impl From<SignInRequest> for SignIn {
    fn from(SignInRequest { email, username, password, audience }: SignInRequest) -> Self {
        let username = || LoginName::username(&username.unwrap_or_default());
        let login = email.map_or_else(username, |email| LoginName::email(&email));
        Self { login, password, audience }
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

refusals!(SignInRefusals = BODY, DATABASE, &[Code::RATE_LIMITED, Code::INVALID_CREDENTIALS, Code::OVERLOADED]);

/// Sign in with e-mail or username.
#[utoipa::path(
    post, path = "/auth/signin", tag = "User and Access", operation_id = "signin",
    request_body = SignInRequest, responses((status = 200, description = "Signed in.", body = TokenPairResponse), SignInRefusals)
)]
pub async fn signin(
    state: Data<State>,
    source: Source,
    UserAgent(user_agent): UserAgent,
    connection: ClientConnection,
    Body(body): Body<SignInRequest>,
) -> Result<HttpResponse, Problem> {
    let from = SignInSource { user_agent, context: source.at(state.clock.now()) };
    let signed_in = connection.cancel_on_disconnect(state.auth.sign_in(body.into(), from)).await;
    state.metrics.signed_in(match &signed_in {
        Ok(Ok(_)) => "ok",
        Ok(Err(AuthError::InvalidCredentials)) => "invalid",
        Ok(Err(AuthError::Overloaded)) => "overloaded",
        Ok(Err(AuthError::RateLimited { .. })) => "limited",
        Ok(Err(_)) => "unavailable",
        Err(Disconnected) => "gone",
    });
    let pair = signed_in??;
    let reply = TokenPairResponse {
        access_token: pair.access.text,
        refresh_token: pair.refresh.text,
        token_type: state.token_type.clone(),
        expires_in: pair.access.expires_in.0,
        refresh_expires_in: pair.refresh.expires_in.0,
    };
    Ok(with_token_names(&state, &reply))
}
