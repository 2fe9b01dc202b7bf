//! `POST /auth/api-keys`, `GET /auth/api-keys`, `DELETE /auth/api-keys/{id}`

use crate::{
    auth::NewApiKey,
    domain::{ApiKey, ApiKeyLifetime, DisplayName, Password, SessionId},
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

/// A new API key. The password is that of the caller.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[schema(example = json!({"name": "nightly export", "password": "correct horse battery", "expires_in": 31_536_000}))]
#[serde(deny_unknown_fields)]
pub struct ApiKeyRequest {
    #[schema(
        value_type = String, min_length = 1, max_length = 150,
        pattern = r"^([^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|[\u200c\u200d])*$"
    )]
    name: DisplayName,
    #[deserr(from(&String) = Password::attempt)]
    #[schema(value_type = String)]
    password: Password,
    /// The number of seconds after which the key expires. Without it, the key does not expire.
    #[deserr(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 315_360_000)]
    expires_in: Option<ApiKeyLifetime>,
    /// The only audience that the access tokens of the key can have. Without it, they can have any.
    #[deserr(default)]
    audience: Option<String>,
}

impl Members for ApiKeyRequest {}

/// An API key.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct ApiKeyResponse {
    #[schema(example = "5f0c3f8e9b1d4c6aa2e7d8b9c0f1e2d3")]
    id: String,
    name: String,
    #[schema(required)]
    audience: Option<String>,
    #[schema(format = DateTime, example = "2026-11-22T14:28:53Z")]
    created_at: String,
    #[schema(required, format = DateTime, example = "2027-11-22T14:28:53Z")]
    expires_at: Option<String>,
    /// Exact to a minute.
    #[schema(required, format = DateTime, example = "2026-11-22T14:28:53Z")]
    last_used_at: Option<String>,
}

impl From<ApiKey> for ApiKeyResponse {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name,
            audience: key.audience,
            created_at: key.created_at.to_string(),
            expires_at: key.expires_at.map(|end| end.to_string()),
            last_used_at: key.last_used_at.map(|at| at.to_string()),
        }
    }
}

/// A new API key with its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = NewApiKey)]
pub struct NewApiKeyResponse {
    /// The secret. No other reply has it.
    #[schema(example = "sgn_00000000000000000000000000000000000000000002yq49O")]
    key: String,
    #[serde(flatten)]
    about: ApiKeyResponse,
}

refusals!(
    CreateRefusals = BODY,
    BEARER,
    DATABASE,
    &[Code::RATE_LIMITED, Code::INVALID_CREDENTIALS, Code::CONFLICT, Code::OVERLOADED]
);

/// Make an API key: a long-lived secret for a program, which `POST /auth/refresh-access` exchanges for access tokens.
///
/// Its access tokens have all rights of the user; with `audience` they are for that service only. Changing the password
/// (`POST /auth/password`) and signing out everywhere do not end the key; a password reset by mail does.
#[utoipa::path(
    post, path = "/auth/api-keys", tag = "User and Access", operation_id = "create_api_key", security(("bearer" = [])),
    request_body = ApiKeyRequest,
    responses((status = 201, description = "The new key.", body = NewApiKeyResponse), CreateRefusals)
)]
pub async fn create(
    state: Data<State>,
    client: ClientConnection,
    source: Source,
    BearerBody(caller, body): BearerBody<ApiKeyRequest>,
) -> Result<HttpResponse, Problem> {
    let ApiKeyRequest { name, password, expires_in, audience } = body;
    let (new, context) = (NewApiKey { name, lifetime: expires_in, audience }, source.at(state.clock.now()));
    let issued = client.cancel_on_disconnect(state.auth.create_api_key(&caller, password, new, &context)).await??;
    let reply = NewApiKeyResponse { key: issued.secret.as_str().to_owned(), about: issued.key.into() };
    Ok(HttpResponse::Created().json(reply))
}

refusals!(ListRefusals = BEARER, DATABASE);

/// List the caller's API keys.
#[utoipa::path(
    get, path = "/auth/api-keys", tag = "User and Access", operation_id = "list_api_keys", security(("bearer" = [])),
    responses((status = 200, description = "The live keys, the oldest first.", body = Vec<ApiKeyResponse>), ListRefusals)
)]
pub async fn list(state: Data<State>, Bearer(caller): Bearer) -> Result<HttpResponse, Problem> {
    let keys = state.auth.list_api_keys(&caller, state.clock.now()).await?;
    Ok(HttpResponse::Ok().json(keys.into_iter().map(ApiKeyResponse::from).collect::<Vec<_>>()))
}

refusals!(DeleteRefusals = BEARER, DATABASE, &[Code::NOT_FOUND]);

/// End one of the caller's API keys, and its access tokens.
#[utoipa::path(
    delete, path = "/auth/api-keys/{id}", tag = "User and Access", operation_id = "delete_api_key",
    params(("id" = String, Path, description = "The key's id.")), security(("bearer" = [])),
    responses((status = 204, description = "The key has ended."), DeleteRefusals)
)]
pub async fn delete(
    state: Data<State>,
    Bearer(caller): Bearer,
    source: Source,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = SessionId::parse(&id).ok_or(Problem::Plain(Code::NOT_FOUND))?;
    state.auth.delete_api_key(&caller, id, &source.at(state.clock.now())).await?;
    Ok(HttpResponse::NoContent().finish())
}
