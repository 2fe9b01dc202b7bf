//! The one place that knows which refusal is which status, and how it is written (RFC 9457).

use crate::auth::AuthError;
use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;
use std::fmt;
use utoipa::ToSchema;

/// A kind of error as clients know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    pub name: &'static str,
    pub status: u16,
    pub title: &'static str,
    /// When it happens, for the page of errors and the OpenAPI document.
    pub when: &'static str,
}

/// Declares every code once: as a constant, and as a row of the page `/docs/errors`.
macro_rules! codes {
    ($($name:ident = $code:literal, $status:literal, $title:literal, $when:literal;)*) => {
        impl Code {
            $(pub const $name: &'static Code = &Code { name: $code, status: $status, title: $title, when: $when };)*
            pub const ALL: &'static [&'static Code] = &[$(Code::$name),*];
        }
    };
}
codes! {
    INVALID_REQUEST = "invalid-request", 400, "Invalid request",
        "The input is malformed or invalid. `errors` says which member, and what would be right.";
    WEAK_PASSWORD = "weak-password", 400, "Weak password",
        "The password breaks a rule. `detail` says which, and what would help.";
    INVALID_CREDENTIALS = "invalid-credentials", 401, "Invalid credentials",
        "Unknown, wrong or inactive: the answer is the same.";
    TOKEN_MISSING = "token-missing", 401, "Token missing",
        "There is no token in the request header, or it is of another scheme.";
    INVALID_TOKEN = "invalid-token", 401, "Invalid token",
        "The token is malformed, forged, expired or ended, there are two, or its user is gone or inactive.";
    WRONG_TOKEN_TYPE = "wrong-token-type", 401, "Wrong token type",
        "A refresh token where an access token belongs, or the reverse.";
    REFRESH_SUPERSEDED = "refresh-superseded", 401, "Refresh token superseded",
        "A newer refresh token of this session was answered moments ago; use that one.";
    REFRESH_REUSED = "refresh-reused", 401, "Refresh token reused",
        "The refresh token had been used before. It may have been copied, so its session has ended.";
    FORBIDDEN = "forbidden", 403, "Forbidden", "The caller may not do this.";
    REGISTRATION_CLOSED = "registration-closed", 403, "Registration closed", "`registration.mode` lets nobody sign up.";
    NOT_FOUND = "not-found", 404, "Not found", "There is nothing here.";
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, "Method not allowed", "The header `Allow` says what is allowed here.";
    REQUEST_TIMEOUT = "request-timeout", 408, "Request timeout", "The request did not arrive in time.";
    EMAIL_TAKEN = "email-taken", 409, "E-mail taken", "There is an account with this e-mail already.";
    USERNAME_TAKEN = "username-taken", 409, "Username taken", "There is an account with this username already.";
    LAST_SUPERUSER = "last-superuser", 409, "Last superuser", "The last active superuser stays.";
    CONFLICT = "conflict", 409, "Conflict", "The request contradicts what is there.";
    FEED_RESET = "feed-reset", 410, "Feed reset", "The cursor is not of this feed: start at 0.";
    PRECONDITION_FAILED = "precondition-failed", 412, "Precondition failed", "`If-Match` does not match.";
    PAYLOAD_TOO_LARGE = "payload-too-large", 413, "Payload too large", "A body may have at most 16 KiB.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", 415, "Unsupported media type",
        "The body must be sent as `application/json` in UTF-8, without an encoding.";
    RATE_LIMITED = "rate-limited", 429, "Rate limited", "Too many tries; `Retry-After` says when to try again.";
    INTERNAL = "internal", 500, "Internal error", "A fault of ours. The log has it under the `request_id`.";
    OVERLOADED = "overloaded", 503, "Overloaded", "Too many passwords are waiting to be hashed. Try again.";
    UNAVAILABLE = "unavailable", 503, "Unavailable", "The database is away. Try again.";
    REVOCATIONS_STALE = "revocations-stale", 503, "Revocations stale",
        "The feed of ended sessions could not be read for too long to trust a token.";
}

/// What is wrong with one member of a request. It never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MemberFault {
    /// Where: a JSON pointer (RFC 6901) to a known member, or `""` for the whole.
    #[schema(example = "/email")]
    pub pointer: String,
    #[schema(example = "must be an e-mail address such as ann@example.com")]
    pub detail: String,
}

impl MemberFault {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Whatever is answered instead of what was asked for.
#[derive(Debug)]
pub enum Problem {
    Auth(AuthError),
    /// Members at fault; never empty.
    Members(Vec<MemberFault>),
    /// A request that is malformed as a whole.
    Malformed(String),
    NotFound,
    /// What would be allowed.
    MethodNotAllowed(String),
    RequestTimeout,
    PayloadTooLarge,
    UnsupportedMediaType,
    /// A fault of ours: a panic above all.
    Internal,
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        Self::Auth(error)
    }
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemResponse {
    /// Where the code is explained.
    #[schema(example = "/docs/errors#invalid-request")]
    r#type: String,
    #[schema(example = "Invalid request")]
    title: &'static str,
    #[schema(example = 400)]
    status: u16,
    /// What happened, in a sentence.
    detail: String,
    /// What happened, for programs.
    #[schema(example = "invalid-request")]
    code: &'static str,
    /// What to ask the operator about.
    request_id: String,
    /// Each member at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<MemberFault>>,
}

impl Problem {
    /// Every refusal and its code.
    pub fn code(&self) -> &'static Code {
        match self {
            Self::Members(_) | Self::Malformed(_) => Code::INVALID_REQUEST,
            Self::NotFound => Code::NOT_FOUND,
            Self::MethodNotAllowed(_) => Code::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => Code::REQUEST_TIMEOUT,
            Self::PayloadTooLarge => Code::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => Code::UNSUPPORTED_MEDIA_TYPE,
            Self::Internal => Code::INTERNAL,
            Self::Auth(error) => match error {
                AuthError::InvalidMember(..) => Code::INVALID_REQUEST,
                AuthError::WeakPassword(_) => Code::WEAK_PASSWORD,
                AuthError::InvalidCredentials => Code::INVALID_CREDENTIALS,
                AuthError::TokenMissing => Code::TOKEN_MISSING,
                AuthError::InvalidToken => Code::INVALID_TOKEN,
                AuthError::RefreshTokenAsAccess | AuthError::AccessTokenAsRefresh => Code::WRONG_TOKEN_TYPE,
                AuthError::RefreshSuperseded => Code::REFRESH_SUPERSEDED,
                AuthError::RefreshReused => Code::REFRESH_REUSED,
                AuthError::Forbidden => Code::FORBIDDEN,
                AuthError::NotFound => Code::NOT_FOUND,
                AuthError::RegistrationClosed => Code::REGISTRATION_CLOSED,
                AuthError::EmailTaken => Code::EMAIL_TAKEN,
                AuthError::UsernameTaken => Code::USERNAME_TAKEN,
                AuthError::Overloaded => Code::OVERLOADED,
                AuthError::RevocationsStale => Code::REVOCATIONS_STALE,
                AuthError::Unavailable(_) => Code::UNAVAILABLE,
                AuthError::Internal(_) => Code::INTERNAL,
            },
        }
    }

    /// The problem that stands for an answer which the framework made: only its status is known.
    pub fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            404 => Self::NotFound,
            405 => Self::MethodNotAllowed(String::new()),
            408 => Self::RequestTimeout,
            413 => Self::PayloadTooLarge,
            415 => Self::UnsupportedMediaType,
            431 => Self::Malformed("The head of the request is too large.".to_owned()),
            400..=499 => Self::Malformed("The request is malformed.".to_owned()),
            _ => Self::Internal,
        }
    }

    fn faults(&self) -> Option<Vec<MemberFault>> {
        match self {
            Self::Members(faults) => Some(faults.clone()),
            Self::Auth(AuthError::InvalidMember(pointer, fault)) => Some(vec![MemberFault::new(*pointer, fault.0)]),
            _ => None,
        }
    }

    /// The body of the answer. `base_path` goes before the address at which the code is explained.
    pub fn json(&self, base_path: &str, request_id: &str) -> String {
        let Code { name: code, status, title, .. } = *self.code();
        let body = ProblemResponse {
            r#type: format!("{base_path}/docs/errors#{code}"),
            title,
            status,
            detail: self.to_string(),
            code,
            request_id: request_id.to_owned(),
            errors: self.faults(),
        };
        serde_json::to_string(&body).unwrap_or_default()
    }

    /// The answer.
    pub fn response(&self, base_path: &str, request_id: &str) -> HttpResponse {
        let Code { name: code, status, .. } = *self.code();
        let mut response = HttpResponse::build(self.status_code());
        match status {
            // RFC 6750 §3: `invalid_token` where a token was sent.
            401 if matches!(code, "invalid-credentials" | "token-missing") => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"signet\""));
            }
            401 => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"signet\", error=\"invalid_token\""));
            }
            503 => {
                response.insert_header((header::RETRY_AFTER, "1"));
            }
            _ => {}
        }
        if let Self::MethodNotAllowed(allow) = self {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        response.content_type("application/problem+json").body(self.json(base_path, request_id))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auth(AuthError::InvalidMember(..)) | Self::Members(_) => {
                f.write_str("The request is not valid; `errors` says what would be right.")
            }
            Self::Auth(error) => error.fmt(f),
            Self::Malformed(detail) => f.write_str(detail),
            Self::NotFound => f.write_str("There is nothing at this address."),
            Self::MethodNotAllowed(_) => f.write_str("This method is not allowed here; `Allow` says which are."),
            Self::RequestTimeout => f.write_str("The request did not arrive in time."),
            Self::PayloadTooLarge => f.write_str("A body may have at most 16 KiB."),
            Self::UnsupportedMediaType => {
                f.write_str("Send the body as `application/json` in UTF-8, without an encoding.")
            }
            Self::Internal => f.write_str("Something went wrong here."),
        }
    }
}

/// For actix-web, which asks errors for an answer; the observer writes the final one, with the request's id.
impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.response("", "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_code_stands_once() {
        let codes: HashSet<_> = Code::ALL.iter().map(|code| code.name).collect();
        assert_eq!(codes.len(), Code::ALL.len());
    }
}
