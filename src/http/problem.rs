//! Errors as clients see them: the table of codes, and the one reply for all of them (RFC 9457).

use super::oauth_error::BASIC;
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
    /// When the error occurs: for the page of errors, for the OpenAPI document, and for the reply's `detail`, unless
    /// the error has a text of its own.
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
        "The input is malformed or invalid. `errors` names each member at fault and says what is valid.";
    WEAK_PASSWORD = "weak-password", 400, "Weak password",
        "The password breaks a rule. `detail` says which one and how to satisfy it.";
    INVALID_CREDENTIALS = "invalid-credentials", 401, "Invalid credentials",
        "The account is unknown or inactive, the client is unknown, or the password or the secret is wrong. The reply \
         does not say which.";
    TOKEN_MISSING = "token-missing", 401, "Token missing",
        "The request header has no token, or a token of another scheme.";
    INVALID_TOKEN = "invalid-token", 401, "Invalid token",
        "The token is malformed, forged, expired or for another audience, its session or API key has ended, its user is \
         inactive or deleted, or the request has two tokens.";
    WRONG_TOKEN_TYPE = "wrong-token-type", 401, "Wrong token type",
        "The request has a refresh token instead of an access token, or the reverse.";
    REFRESH_SUPERSEDED = "refresh-superseded", 401, "Refresh token superseded",
        "A newer refresh token of this session was issued moments ago. Use that one.";
    REFRESH_REUSED = "refresh-reused", 401, "Refresh token reused",
        "The refresh token had been used before. It may have been copied, so its session has ended. Sign in again.";
    FORBIDDEN = "forbidden", 403, "Forbidden", "The caller does not have the right to do this.";
    REGISTRATION_CLOSED = "registration-closed", 403, "Registration closed",
        "The setting `registration.mode` does not let users create accounts.";
    NOT_FOUND = "not-found", 404, "Not found", "There is nothing at this address.";
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, "Method not allowed",
        "The address does not support this method. The header `Allow` lists the methods that it supports.";
    REQUEST_TIMEOUT = "request-timeout", 408, "Request timeout", "The request did not arrive in time.";
    EMAIL_TAKEN = "email-taken", 409, "E-mail taken", "An account with this e-mail already exists.";
    USERNAME_TAKEN = "username-taken", 409, "Username taken", "An account with this username already exists.";
    LAST_SUPERUSER = "last-superuser", 409, "Last superuser",
        "The user is the last active superuser. Make another user a superuser first.";
    CONFLICT = "conflict", 409, "Conflict",
        "The user has the maximum number of API keys (`users.max_api_keys`). Delete one.";
    FEED_RESET = "feed-reset", 410, "Feed reset",
        "`after` or `feed` is not of this feed: the database was replaced or restored. Start with `after=0`.";
    PRECONDITION_FAILED = "precondition-failed", 412, "Precondition failed",
        "The user has changed since the client read it: `If-Match` is not the `ETag` of the user. Read the user again.";
    PAYLOAD_TOO_LARGE = "payload-too-large", 413, "Payload too large", "A body may have at most 16 KiB.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", 415, "Unsupported media type",
        "Send the body as `application/json` in UTF-8, without a content encoding.";
    RATE_LIMITED = "rate-limited", 429, "Rate limited",
        "Too many attempts. The header `Retry-After` has the number of seconds to wait.";
    INTERNAL = "internal", 500, "Internal error",
        "The service has failed. Its log has the reason under this `request_id`.";
    OVERLOADED = "overloaded", 503, "Overloaded", "Too many passwords are waiting to be hashed. Try again in a moment.";
    UNAVAILABLE = "unavailable", 503, "Unavailable", "The service cannot use its database. Try again in a moment.";
    REVOCATIONS_STALE = "revocations-stale", 503, "Revocations stale",
        "The service has not been able to read which sessions have ended, so it accepts no access token. Try again in a moment.";
}

/// A fault of one member of a request. It never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MemberFault {
    /// A JSON pointer (RFC 6901) to a known member, or `""` for the whole request.
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

/// The reason why a request was refused or failed.
#[derive(Debug)]
pub enum Problem {
    Auth(AuthError),
    /// Members at fault; never empty.
    Members(Vec<MemberFault>),
    /// A request that is malformed as a whole.
    Malformed(String),
    /// The methods that the address supports.
    MethodNotAllowed(String),
    /// RFC 6749 §5.2.
    UnsupportedGrantType,
    /// The issuer is not an absolute URL.
    NoMetadata,
    /// A problem that its code describes completely.
    Plain(&'static Code),
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
    code: &'static str,
    /// The id under which the service has logged the request.
    request_id: String,
    /// Each member at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    errors: Option<Vec<MemberFault>>,
}

impl Problem {
    /// The code of this problem.
    pub fn code(&self) -> &'static Code {
        match self {
            Self::Members(_) | Self::Malformed(_) | Self::UnsupportedGrantType => Code::INVALID_REQUEST,
            Self::MethodNotAllowed(_) => Code::METHOD_NOT_ALLOWED,
            Self::NoMetadata => Code::NOT_FOUND,
            Self::Plain(code) => code,
            Self::Auth(error) => match error {
                AuthError::InvalidMember(..) => Code::INVALID_REQUEST,
                AuthError::WeakPassword(_) => Code::WEAK_PASSWORD,
                AuthError::InvalidCredentials | AuthError::InvalidClient => Code::INVALID_CREDENTIALS,
                AuthError::TokenMissing => Code::TOKEN_MISSING,
                AuthError::InvalidToken => Code::INVALID_TOKEN,
                AuthError::RefreshTokenAsAccess | AuthError::AccessTokenAsRefresh => Code::WRONG_TOKEN_TYPE,
                AuthError::RefreshSuperseded => Code::REFRESH_SUPERSEDED,
                AuthError::RefreshReused => Code::REFRESH_REUSED,
                AuthError::Forbidden => Code::FORBIDDEN,
                AuthError::NotFound => Code::NOT_FOUND,
                AuthError::PreconditionFailed => Code::PRECONDITION_FAILED,
                AuthError::FeedReset => Code::FEED_RESET,
                AuthError::TooManyApiKeys => Code::CONFLICT,
                AuthError::LastSuperuser => Code::LAST_SUPERUSER,
                AuthError::RegistrationClosed => Code::REGISTRATION_CLOSED,
                AuthError::EmailTaken => Code::EMAIL_TAKEN,
                AuthError::UsernameTaken => Code::USERNAME_TAKEN,
                AuthError::RateLimited { .. } => Code::RATE_LIMITED,
                AuthError::Overloaded => Code::OVERLOADED,
                AuthError::RevocationsStale => Code::REVOCATIONS_STALE,
                AuthError::Unavailable(_) | AuthError::NoMail => Code::UNAVAILABLE,
                AuthError::Internal(_) => Code::INTERNAL,
            },
        }
    }

    /// The problem for a response of the framework, of which only the status is known.
    pub fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            404 => Self::Plain(Code::NOT_FOUND),
            405 => Self::MethodNotAllowed(String::new()),
            408 => Self::Plain(Code::REQUEST_TIMEOUT),
            413 => Self::Plain(Code::PAYLOAD_TOO_LARGE),
            415 => Self::Plain(Code::UNSUPPORTED_MEDIA_TYPE),
            431 => Self::Malformed("The head of the request is too large.".to_owned()),
            400..=499 => Self::Malformed("The request is malformed.".to_owned()),
            _ => Self::Plain(Code::INTERNAL),
        }
    }

    fn faults(&self) -> Option<Vec<MemberFault>> {
        match self {
            Self::Members(faults) => Some(faults.clone()),
            Self::Auth(AuthError::InvalidMember(pointer, fault)) => Some(vec![MemberFault::new(*pointer, fault.0)]),
            _ => None,
        }
    }

    /// The body of the response. `base_path` is the prefix of the page that explains the code.
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

    /// The response.
    pub fn response(&self, base_path: &str, request_id: &str) -> HttpResponse {
        let Code { name: code, status, .. } = *self.code();
        let mut response = HttpResponse::build(self.status_code());
        match status {
            401 if matches!(self, Self::Auth(AuthError::InvalidClient)) => {
                response.insert_header((header::WWW_AUTHENTICATE, BASIC));
            }
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
        if let Self::Auth(AuthError::RateLimited { retry_after, .. }) = self {
            response.insert_header((header::RETRY_AFTER, retry_after.0));
        }
        if let Self::MethodNotAllowed(allow) = self {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        response.content_type("application/problem+json").body(self.json(base_path, request_id))
    }
}

/// The `detail` of the reply.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auth(AuthError::InvalidMember(..)) | Self::Members(_) => {
                f.write_str("The request is not valid; `errors` says what is valid.")
            }
            Self::Malformed(detail) => f.write_str(detail),
            Self::Auth(AuthError::NoMail) => f.write_str("This service sends no mail: `mail.smtp_url` is not set."),
            Self::NoMetadata => f.write_str(
                "There is no metadata: set `server.public_url` or `jwt.issuer` to the absolute URL of this service.",
            ),
            // These have a fixed text of their own, or one that depends on the settings.
            Self::Auth(
                error @ (AuthError::WeakPassword(_)
                | AuthError::InvalidCredentials
                | AuthError::InvalidClient
                | AuthError::TokenMissing
                | AuthError::RefreshTokenAsAccess
                | AuthError::AccessTokenAsRefresh),
            ) => error.fmt(f),
            _ => f.write_str(self.code().when),
        }
    }
}

/// actix-web asks an error for its response; the middleware `problem_json` adds the id of the request.
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
    fn every_error_code_is_unique() {
        let codes: HashSet<_> = Code::ALL.iter().map(|code| code.name).collect();
        assert_eq!(codes.len(), Code::ALL.len());
    }
}
