//! `GET /.well-known/jwks.json`

use crate::{http::State, keys::MAX_AGE};
use actix_web::{HttpResponse, http::header::CACHE_CONTROL, web::Data};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A JWK set.
#[derive(ToSchema)]
#[schema(as = KeySet)]
#[expect(dead_code, reason = "only its schema is used: the keys module makes the set")]
pub struct KeySetResponse {
    keys: Vec<Map<String, Value>>,
}

/// The public keys of access tokens (RFC 7517).
///
/// Clients may keep the key set for `max-age`, and fetch it again earlier when a token names a key that is not in it.
/// It is empty under HS256, HS384 and HS512, whose key is a secret.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "User and Access", operation_id = "jwks",
    responses((status = 200, description = "The key set.", content_type = "application/jwk-set+json", body = KeySetResponse)))]
pub async fn key_set(state: Data<State>) -> HttpResponse {
    let body = serde_json::to_string(&state.auth.key_set(state.clock.now())).unwrap_or_default();
    HttpResponse::Ok()
        .content_type("application/jwk-set+json")
        .insert_header((CACHE_CONTROL, format!("public, max-age={}", MAX_AGE.0)))
        .body(body)
}
