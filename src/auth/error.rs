//! Everything that a use case can refuse or fail at, in words. `http/error.rs` knows the numbers.

use crate::{
    domain::{Invalid, WeakPassword},
    passwords::HashError,
    storage::StorageError,
    tokens::SigningFailed,
};

/// Why a use case did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// A member of the input is not what it must be.
    #[error("{0} {1}")]
    InvalidMember(&'static str, Invalid),
    #[error(transparent)]
    WeakPassword(#[from] WeakPassword),
    /// Unknown, wrong, inactive: the client is not told which.
    #[error("Invalid credentials.")]
    InvalidCredentials,
    #[error("Token not found in the request header")]
    TokenMissing,
    /// Malformed, forged, expired, ended, user gone: the client is not told which.
    #[error("The token is invalid or has expired.")]
    InvalidToken,
    #[error("Refresh tokens cannot be used for operations.")]
    RefreshTokenAsAccess,
    #[error("Only refresh tokens are allowed.")]
    AccessTokenAsRefresh,
    #[error("A newer refresh token of this session was answered moments ago.")]
    RefreshSuperseded,
    #[error("This refresh token was used before. Its session has ended; sign in again.")]
    RefreshReused,
    #[error("You are not allowed to do this.")]
    Forbidden,
    #[error("There is nothing at this address.")]
    NotFound,
    #[error("Nobody can sign up here.")]
    RegistrationClosed,
    #[error("There is an account with this e-mail already.")]
    EmailTaken,
    #[error("There is an account with this username already.")]
    UsernameTaken,
    #[error("Too many sign-ins are waiting. Try again in a moment.")]
    Overloaded,
    /// The feed of revocations could not be read for too long: whether this token was taken back is not known.
    #[error("The service cannot tell at the moment whether this token has ended. Try again in a moment.")]
    RevocationsStale,
    /// The database cannot do its work. Why is for the log and the operator.
    #[error("The service cannot reach its database. Try again in a moment.")]
    Unavailable(String),
    /// A fault of ours. What it was is for the log.
    #[error("Something went wrong here.")]
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
            HashError::Argon2(_) | HashError::Panicked => Self::Internal(error.to_string()),
        }
    }
}

impl From<SigningFailed> for AuthError {
    fn from(error: SigningFailed) -> Self {
        Self::Internal(error.to_string())
    }
}
