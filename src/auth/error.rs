//! The errors of all use cases. `http/problem.rs` maps them to status codes and replies.

use crate::{
    domain::{Invalid, Seconds, WeakPassword},
    passwords::HashError,
    storage::StorageError,
    tokens::SigningFailed,
};

/// Why a use case refused a request or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The JSON pointer to a member, and its fault.
    #[error("{0} {1}")]
    InvalidMember(&'static str, Invalid),
    #[error(transparent)]
    WeakPassword(#[from] WeakPassword),
    /// Unknown or inactive account, or wrong password: the client is not told which.
    #[error("Invalid credentials.")]
    InvalidCredentials,
    #[error("Token not found in the request header")]
    TokenMissing,
    /// Malformed, forged or expired, its session has ended, or its user is inactive or deleted: the client is not told
    /// which.
    #[error("The token is invalid.")]
    InvalidToken,
    #[error("Refresh tokens cannot be used for operations.")]
    RefreshTokenAsAccess,
    #[error("Only refresh tokens are allowed.")]
    AccessTokenAsRefresh,
    #[error("A newer refresh token of this session was issued moments ago.")]
    RefreshSuperseded,
    #[error("The refresh token had been used before; its session has ended.")]
    RefreshReused,
    #[error("The caller does not have the right to do this.")]
    Forbidden,
    #[error("There is no such session or user.")]
    NotFound,
    /// The client expects another version of the user.
    #[error("The user has changed.")]
    PreconditionFailed,
    /// The cursor of a reader is not a position in this feed: the feed was reset.
    #[error("The feed has been reset.")]
    FeedReset,
    #[error("The user has the maximum number of API keys.")]
    TooManyApiKeys,
    /// The client is unknown or its secret is wrong; the reply does not say which.
    #[error("Invalid credentials.")]
    InvalidClient,
    #[error("This is the last active superuser.")]
    LastSuperuser,
    #[error("Registration is closed.")]
    RegistrationClosed,
    #[error("An account with this e-mail already exists.")]
    EmailTaken,
    #[error("An account with this username already exists.")]
    UsernameTaken,
    /// A limit of `rate_limit`, by the name of its setting, or `account`.
    #[error("Too many attempts.")]
    RateLimited { limit: &'static str, retry_after: Seconds },
    #[error("Too many passwords are waiting to be hashed.")]
    Overloaded,
    /// The feed of revocations could not be read for too long: whether the token is revoked is not known.
    #[error("The feed of revocations is stale.")]
    RevocationsStale,
    /// The database is unavailable. The reason is for the log and the operator.
    #[error("The database is unavailable.")]
    Unavailable(String),
    #[error("This service sends no mail.")]
    NoMail,
    /// A fault of the service. The reason is for the log.
    #[error("Internal error.")]
    Internal(String),
}

impl From<StorageError> for AuthError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(reason) => Self::Unavailable(reason),
            StorageError::Fault(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<HashError> for AuthError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overloaded => Self::Overloaded,
            HashError::Weak(weakness) => Self::WeakPassword(weakness),
            HashError::Argon2(_) | HashError::Panicked => Self::Internal(error.to_string()),
        }
    }
}

impl From<SigningFailed> for AuthError {
    fn from(error: SigningFailed) -> Self {
        Self::Internal(error.to_string())
    }
}
