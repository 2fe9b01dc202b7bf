//! The errors of `/oauth/*`: `{error, error_description}` (RFC 6749 §5.2).

use super::{
    problem::{Code, Problem},
    refusals::required_header,
};
use crate::auth::AuthError;
use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder, Schema},
};

/// The body of an error of `/oauth/*`.
#[derive(Serialize, ToSchema)]
#[schema(as = OauthError)]
pub struct OauthErrorResponse {
    #[schema(example = "invalid_client")]
    error: String,
    /// Printable ASCII without `"` and `\`.
    #[schema(example = "The client credentials are missing or wrong.")]
    error_description: String,
}

/// The errors of every route of OAuth, for the OpenAPI document.
pub struct OauthRefusals;

impl IntoResponses for OauthRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let responses = [
            (400, "`invalid_request`, or the error code of a grant (RFC 6749 §5.2).", None),
            (401, "`invalid_client`", Some("WWW-Authenticate")),
            (408, "`invalid_request`: the request did not arrive in time.", None),
            (413, "`invalid_request`: the body is too long.", None),
            (429, "`temporarily_unavailable`: too many wrong secrets.", Some("Retry-After")),
            (503, "`temporarily_unavailable`", Some("Retry-After")),
        ];
        let schema = || Some(RefOr::<Schema>::Ref(Ref::from_schema_name("OauthError")));
        let response = |(status, description, header): (u16, &str, Option<&str>)| {
            let content = ContentBuilder::new().schema(schema()).build();
            let response = ResponseBuilder::new().description(description).content("application/json", content);
            let response = header.into_iter().fold(response, |response, name| response.header(name, required_header()));
            (status.to_string(), response.build().into())
        };
        responses.map(response).into()
    }
}

/// The codes that [`describe`] returns.
pub const CODES: [&str; 8] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "invalid_scope",
    "invalid_target",
    "unsupported_grant_type",
    "temporarily_unavailable",
    "server_error",
];

/// The code and the description of a problem.
fn describe(problem: &Problem) -> (&'static str, &str) {
    match problem {
        Problem::Auth(AuthError::InvalidClient) => ("invalid_client", "The client credentials are missing or wrong."),
        Problem::Auth(AuthError::InvalidToken | AuthError::AccessTokenAsRefresh) => {
            ("invalid_grant", "The refresh token is not valid, or its session has ended.")
        }
        Problem::Auth(AuthError::RefreshSuperseded) => {
            ("invalid_grant", "A newer refresh token of this session was issued moments ago.")
        }
        Problem::Auth(AuthError::RefreshReused) => {
            ("invalid_grant", "The refresh token had been used before; its session has ended.")
        }
        Problem::Auth(AuthError::InvalidMember("/scope", _)) => {
            ("invalid_scope", "The scope is not one that this client can ask for.")
        }
        // RFC 8707 §2.
        Problem::Auth(AuthError::InvalidMember("/audience", _)) => {
            ("invalid_target", "The resource is not one that this client can ask for, or there are several.")
        }
        Problem::UnsupportedGrantType => {
            ("unsupported_grant_type", "The grant types are refresh_token and client_credentials.")
        }
        Problem::Malformed(detail) => ("invalid_request", detail),
        problem => match problem.code() {
            Code { status: 429 | 503, .. } => ("temporarily_unavailable", "Try again after the time in Retry-After."),
            Code { status: 500, .. } => ("server_error", "The service has failed."),
            Code { status: 405, .. } => ("invalid_request", "Use POST."),
            Code { status: 408, .. } => ("invalid_request", "The request did not arrive in time."),
            Code { status: 413, .. } => ("invalid_request", "A body may have at most 16 KiB."),
            Code { status: 415, .. } => ("invalid_request", "Send the form as application/x-www-form-urlencoded."),
            _ => ("invalid_request", "There is nothing at this address."),
        },
    }
}

/// The response of a route of OAuth.
pub fn response(problem: &Problem) -> HttpResponse {
    let (error, description) = describe(problem);
    let status = match error {
        "invalid_client" => StatusCode::UNAUTHORIZED,
        "invalid_grant" => StatusCode::BAD_REQUEST,
        // RFC 6749 §5.2: a malformed request is 400, also one of another media type.
        _ if problem.status_code() == StatusCode::UNSUPPORTED_MEDIA_TYPE => StatusCode::BAD_REQUEST,
        _ => problem.status_code(),
    };
    let of_problem = problem.response("", "");
    let mut response = HttpResponse::build(status);
    for name in [header::RETRY_AFTER, header::ALLOW] {
        if let Some(value) = of_problem.headers().get(&name) {
            response.insert_header((name, value.clone()));
        }
    }
    if status == StatusCode::UNAUTHORIZED {
        response.insert_header((header::WWW_AUTHENTICATE, BASIC));
    }
    response.json(OauthErrorResponse { error: error.to_owned(), error_description: description.to_owned() })
}

/// The challenge of a route for clients (RFC 7617 §2).
pub const BASIC: &str = "Basic realm=\"signet\"";
