//! `GET /.well-known/oauth-authorization-server` and `GET /.well-known/openid-configuration`

use crate::{
    http::{
        State,
        problem::{Code, Problem},
        refusals::refusals,
    },
    keys::MAX_AGE,
};
use actix_web::{HttpResponse, http::header::CACHE_CONTROL, web::Data};
use serde_json::{Value, json};
use url::Url;
use utoipa::ToSchema;

/// The endpoints and capabilities of this service (RFC 8414), without the scopes, which depend on the clients.
///
/// Every URL is the issuer without a trailing `/`, then `base_path` (unless the path of the issuer ends with it), then
/// the route.
pub fn metadata(issuer: &str, url: &Url, base_path: &str, algorithm: &str) -> Value {
    let prefix = issuer.strip_suffix('/').unwrap_or(issuer);
    let base_path = if url.path().trim_end_matches('/').ends_with(base_path) { "" } else { base_path };
    let at = |route: &str| format!("{prefix}{base_path}{route}");
    let client_authentication = json!(["client_secret_basic", "client_secret_post"]);
    json!({
        "issuer": issuer,
        "jwks_uri": at("/.well-known/jwks.json"),
        "token_endpoint": at("/oauth/token"),
        "token_endpoint_auth_methods_supported": client_authentication,
        "introspection_endpoint": at("/oauth/introspect"),
        "introspection_endpoint_auth_methods_supported": client_authentication,
        "revocation_endpoint": at("/oauth/revoke"),
        "revocation_endpoint_auth_methods_supported": client_authentication,
        "grant_types_supported": ["refresh_token", "client_credentials"],
        // There is no authorization endpoint.
        "response_types_supported": ["none"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [algorithm],
        "claims_supported": [
            "aud", "client_id", "exp", "iat", "iss", "jti", "preferred_username", "roles", "scope", "sid", "sub", "token_type",
        ],
    })
}

/// The path of the metadata by RFC 8414 §3.1, for an issuer with a path: the path of the issuer comes last.
pub fn inserted_path(issuer: &Url) -> Option<String> {
    let path = issuer.path().trim_end_matches('/');
    (!path.is_empty()).then(|| format!("/.well-known/oauth-authorization-server{path}"))
}

/// The metadata of RFC 8414. It has more members than these.
#[derive(ToSchema)]
#[schema(as = Metadata)]
#[expect(dead_code, reason = "only its schema is used: the document is made once, as a value")]
pub struct MetadataResponse {
    #[schema(example = "https://id.example.com")]
    issuer: String,
    jwks_uri: String,
    token_endpoint: String,
    introspection_endpoint: String,
    revocation_endpoint: String,
    grant_types_supported: Vec<String>,
    response_types_supported: Vec<String>,
    #[schema(nullable = false)]
    scopes_supported: Option<Vec<String>>,
}

refusals!(MetadataRefusals = &[Code::NOT_FOUND]);

/// Discover the endpoints and capabilities of this service (RFC 8414).
///
/// The metadata exists if the issuer (`jwt.issuer`, else `server.public_url`) is an absolute URL.
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", tag = "User and Access",
    operation_id = "oauth_metadata",
    responses(
        (status = 200, description = "The metadata.", body = MetadataResponse),
        MetadataRefusals,
    ))]
pub async fn oauth_metadata(state: Data<State>) -> Result<HttpResponse, Problem> {
    let mut metadata = state.metadata.clone().ok_or(Problem::NoMetadata)?;
    let scopes = state.auth.client_scopes().await;
    // RFC 8414 §3.2: an array without elements is left out.
    if !scopes.is_empty() {
        metadata["scopes_supported"] = json!(*scopes);
    }
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, format!("public, max-age={}", MAX_AGE.0))).json(metadata))
}

/// Discover the endpoints and capabilities of this service: the same metadata, at the address that many verifiers read.
#[utoipa::path(get, path = "/.well-known/openid-configuration", tag = "User and Access",
    operation_id = "openid_configuration",
    responses(
        (status = 200, description = "The metadata.", body = MetadataResponse),
        MetadataRefusals,
    ))]
pub async fn openid_configuration(state: Data<State>) -> Result<HttpResponse, Problem> {
    oauth_metadata(state).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_issuer_the_base_path_and_the_route() {
        // Issuer, base path, where the key set is.
        let rows = [
            ("https://id.example.com", "", "https://id.example.com"),
            ("https://id.example.com/", "", "https://id.example.com"),
            ("https://id.example.com", "/id", "https://id.example.com/id"),
            ("https://example.com/id", "/id", "https://example.com/id"),
            ("https://example.com/id/", "/id", "https://example.com/id"),
            ("https://example.com/a/id", "/id", "https://example.com/a/id"),
            ("https://example.com/void", "/id", "https://example.com/void/id"),
            ("https://example.com/id", "", "https://example.com/id"),
            ("http://[::1]:8000", "", "http://[::1]:8000"),
        ];
        for (issuer, base_path, prefix) in rows {
            let document = metadata(issuer, &Url::parse(issuer).unwrap(), base_path, "ES256");
            assert_eq!(document["issuer"], issuer);
            assert_eq!(document["jwks_uri"], format!("{prefix}/.well-known/jwks.json"), "{issuer} {base_path}");
        }
    }

    #[test]
    fn the_path_of_an_issuer_comes_after_the_well_known_address() {
        let path = |issuer: &str| inserted_path(&Url::parse(issuer).unwrap());
        assert_eq!(path("https://id.example.com/"), None);
        assert_eq!(path("https://example.com/a/id/").as_deref(), Some("/.well-known/oauth-authorization-server/a/id"));
    }
}
