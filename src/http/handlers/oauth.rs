//! `POST /oauth/token`, `POST /oauth/introspect`, `POST /oauth/revoke`

use super::refresh::refresh_outcome;
use crate::{
    auth::AuthError,
    domain::Invalid,
    http::{
        State,
        extract::{ClientForm, Source},
        oauth_error::OauthRefusals,
        problem::Problem,
    },
};
use actix_web::{HttpResponse, http::header::PRAGMA, web::Data};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

/// The parameters of a grant. A client that does not use HTTP Basic adds `client_id` and `client_secret`.
#[derive(ToSchema)]
#[schema(example = json!({"grant_type": "client_credentials", "scope": "orders:read"}))]
#[expect(dead_code, reason = "only its schema is used: the parameters of a form are read by their names")]
pub struct TokenRequest {
    #[schema(inline)]
    grant_type: GrantType,
    /// Required by the grant type `refresh_token`.
    #[schema(nullable = false)]
    refresh_token: Option<String>,
    /// For the grant type `client_credentials`: scopes of the client, separated by spaces. By default all of them.
    #[schema(nullable = false)]
    scope: Option<String>,
    /// The service that the access token is for (RFC 8707).
    #[schema(nullable = false)]
    resource: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used: the parameters of a form are read by their names")]
enum GrantType {
    RefreshToken,
    ClientCredentials,
}

/// A token. A client that does not use HTTP Basic adds `client_id` and `client_secret`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used: the parameters of a form are read by their names")]
pub struct TokenParameter {
    #[schema(min_length = 1)]
    token: String,
    /// Ignored.
    #[schema(nullable = false)]
    token_type_hint: Option<String>,
}

/// An access token of a grant (RFC 6749 §5.1).
#[derive(Serialize, ToSchema)]
#[schema(as = OauthToken)]
pub struct TokenResponse {
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    #[schema(example = 300)]
    expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scope: Option<String>,
}

/// Get an access token in exchange for a refresh token, or for the client itself.
#[utoipa::path(
    post, path = "/oauth/token", tag = "OAuth", operation_id = "oauth_token", security(("client" = [])),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "An access token.", body = TokenResponse),
        OauthRefusals,
    )
)]
pub async fn token(
    state: Data<State>,
    source: Source,
    ClientForm { client, parameters }: ClientForm,
) -> Result<HttpResponse, Problem> {
    let (scope, resource) = (parameters.get("scope"), parameters.get("resource"));
    let context = source.at(state.clock.now());
    let reply = match parameters.required("grant_type")? {
        "client_credentials" => {
            let granted = state.auth.grant_to_client(&client, scope, resource, context.at)?;
            TokenResponse {
                access_token: granted.access.text,
                token_type: "Bearer",
                expires_in: granted.access.expires_in.0,
                refresh_token: None,
                scope: (!granted.scopes.is_empty()).then(|| granted.scopes.to_string()),
            }
        }
        "refresh_token" => {
            let token = parameters.required("refresh_token")?;
            if scope.is_some() {
                let fault = Invalid("must be absent: the token of a user has no scope");
                return Err(AuthError::InvalidMember("/scope", fault).into());
            }
            let refreshed = state.auth.refresh_for_client(token, resource, &context).await;
            state.metrics.refreshed(refresh_outcome(&refreshed));
            let refreshed = refreshed?;
            TokenResponse {
                access_token: refreshed.access.text,
                token_type: "Bearer",
                expires_in: refreshed.access.expires_in.0,
                refresh_token: refreshed.refresh.map(|refresh| refresh.text),
                scope: None,
            }
        }
        _ => return Err(Problem::UnsupportedGrantType),
    };
    // RFC 6749 §5.1. A middleware adds `Cache-Control: no-store`.
    Ok(HttpResponse::Ok().insert_header((PRAGMA, "no-cache")).json(reply))
}

/// Whether a token is active, and its claims.
#[derive(ToSchema)]
#[schema(as = Introspection, example = json!({"active": false}))]
#[expect(dead_code, reason = "only its schema is used: the reply has all claims of the token")]
pub struct IntrospectionResponse {
    active: bool,
    #[schema(nullable = false)]
    sub: Option<String>,
    #[schema(nullable = false)]
    aud: Option<String>,
    #[schema(nullable = false)]
    iss: Option<String>,
    #[schema(nullable = false)]
    exp: Option<i64>,
    #[schema(nullable = false)]
    iat: Option<i64>,
    #[schema(nullable = false)]
    jti: Option<String>,
    #[schema(nullable = false)]
    sid: Option<String>,
    #[schema(nullable = false)]
    client_id: Option<String>,
    #[schema(nullable = false)]
    scope: Option<String>,
    #[schema(nullable = false)]
    username: Option<String>,
    #[schema(nullable = false, example = "Bearer")]
    token_type: Option<String>,
}

/// Ask whether an access token is active (RFC 7662).
///
/// The service answers from memory: roles, username and claims are those of the last sign-in or refresh. The token may
/// be for any audience: the client must check `aud`.
#[utoipa::path(
    post, path = "/oauth/introspect", tag = "OAuth", operation_id = "oauth_introspect", security(("client" = [])),
    request_body(content = TokenParameter, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "`active`, and the claims of an active token.", body = IntrospectionResponse),
        OauthRefusals,
    )
)]
pub async fn introspect(
    state: Data<State>,
    ClientForm { parameters, .. }: ClientForm,
) -> Result<HttpResponse, Problem> {
    let token = parameters.required("token")?;
    let Some(mut claims) = state.auth.introspect(token, state.clock.now())? else {
        return Ok(HttpResponse::Ok().json(json!({ "active": false })));
    };
    claims.insert("active".to_owned(), true.into());
    // RFC 7662 §2.2: the type of RFC 6749 §5.1, not the claim of this name.
    claims.insert("token_type".to_owned(), "Bearer".into());
    if let Some(username) = claims.get("preferred_username").cloned() {
        claims.insert("username".to_owned(), username);
    }
    Ok(HttpResponse::Ok().json(claims))
}

/// Revoke a token (RFC 7009): an access token alone, a refresh token with its session.
#[utoipa::path(
    post, path = "/oauth/revoke", tag = "OAuth", operation_id = "oauth_revoke", security(("client" = [])),
    request_body(content = TokenParameter, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The token is revoked, or was not valid."),
        OauthRefusals,
    )
)]
pub async fn revoke(
    state: Data<State>,
    source: Source,
    ClientForm { parameters, .. }: ClientForm,
) -> Result<HttpResponse, Problem> {
    let token = parameters.required("token")?;
    state.auth.revoke(token, &source.at(state.clock.now())).await?;
    Ok(HttpResponse::Ok().finish())
}
