//! `POST /auth/refresh-access`

use super::token_names::with_token_names;
use crate::{
    auth::{AuthError, RefreshKind, Refreshed},
    http::{
        State,
        extract::{Body, MemberFaults, Members, Source, exactly_one},
        problem::{Code, MemberFault, Problem},
        refusals::{BODY, DATABASE, refusals},
    },
};
use actix_web::{HttpResponse, web::Data};
use deserr::Deserr;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Exactly one of a refresh token and an API key.
#[derive(Deserr, ToSchema)]
#[deserr(deny_unknown_fields, error = MemberFaults)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    #[deserr(default)]
    refresh_token: Option<String>,
    #[deserr(default)]
    api_key: Option<String>,
    /// The service that the access token is for.
    #[deserr(default)]
    #[schema(example = "https://orders.example.com")]
    audience: Option<String>,
}

impl Members for RefreshRequest {
    /// Exactly one of `refresh_token` and `api_key` is given.
    fn check_together(members: &Map<String, Value>) -> Option<MemberFault> {
        exactly_one(members, ["refresh_token", "api_key"])
    }
}

/// A new access token and, with rotation, a new refresh token. Times are in seconds from now.
#[derive(Serialize, ToSchema)]
#[schema(as = AccessToken)]
pub struct AccessTokenResponse {
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: String,
    #[schema(example = 300)]
    expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 86400)]
    refresh_expires_in: Option<i64>,
}

refusals!(
    RefreshRefusals = BODY,
    DATABASE,
    &[Code::RATE_LIMITED, Code::INVALID_TOKEN, Code::WRONG_TOKEN_TYPE, Code::REFRESH_SUPERSEDED, Code::REFRESH_REUSED]
);

/// Get a new access token for a refresh token or an API key.
#[utoipa::path(
    post, path = "/auth/refresh-access", tag = "User and Access", operation_id = "refresh_access",
    request_body = RefreshRequest, responses((status = 200, description = "A new access token.", body = AccessTokenResponse), RefreshRefusals)
)]
pub async fn refresh_access(
    state: Data<State>,
    source: Source,
    Body(request): Body<RefreshRequest>,
) -> Result<HttpResponse, Problem> {
    let (context, audience) = (source.at(state.clock.now()), request.audience.as_deref());
    let refreshed = match &request.api_key {
        Some(key) => {
            let access = state.auth.exchange_api_key(key, audience, &context).await;
            access.map(|access| Refreshed { access, refresh: None, kind: RefreshKind::ApiKey })
        }
        None => state.auth.refresh(&request.refresh_token.unwrap_or_default(), audience, &context).await,
    };
    state.metrics.refreshed(refresh_outcome(&refreshed));
    let refreshed = refreshed?;
    let (refresh_token, refresh_expires_in) =
        refreshed.refresh.map(|refresh| (refresh.text, refresh.expires_in.0)).unzip();
    let reply = AccessTokenResponse {
        access_token: refreshed.access.text,
        token_type: state.token_type.clone(),
        expires_in: refreshed.access.expires_in.0,
        refresh_token,
        refresh_expires_in,
    };
    Ok(with_token_names(&state, &reply))
}

/// The outcome of a refresh, for the metrics.
pub(super) fn refresh_outcome(refreshed: &Result<Refreshed, AuthError>) -> &'static str {
    match refreshed {
        Ok(Refreshed { kind: RefreshKind::ApiKey, .. }) => "api_key",
        Ok(Refreshed { kind: RefreshKind::Rotated, .. }) => "rotated",
        Ok(Refreshed { kind: RefreshKind::Repeated, .. }) => "repeated",
        Ok(Refreshed { kind: RefreshKind::Renewed, .. }) => "renewed",
        Err(AuthError::RefreshSuperseded) => "superseded",
        Err(AuthError::RefreshReused) => "reused",
        Err(AuthError::RateLimited { .. }) => "limited",
        Err(AuthError::Unavailable(_) | AuthError::Internal(_)) => "unavailable",
        Err(_) => "invalid",
    }
}
