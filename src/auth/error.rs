//! Every reason why a use case fails. `http/problem.rs` maps each one to a status code.

use crate::{
    crypto::SigningFailed,
    domain::{Invalid, WeakPassword},
    passwords::HashError,
    storage::StorageError,
};

/// Why a use case failed. Clients see the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// A member of the input is not what it must be.
    #[error("{0} {1}")]
    InvalidMember(&'static str, Invalid),
    #[error(transparent)]
    WeakPassword(#[from] WeakPassword),
    /// Unknown account, wrong password or inactive user: the reply must not tell an attacker which.
    #[error("Invalid credentials.")]
    InvalidCredentials,
    #[error("Token not found in the request header")]
    TokenMissing,
    /// Malformed, forged, expired or revoked, or its user is deleted or inactive: the reply must not tell which.
    #[error("The token is invalid or has expired.")]
    InvalidToken,
    #[error("Refresh tokens cannot be used for operations.")]
    RefreshTokenAsAccess,
    #[error("Only refresh tokens are allowed.")]
    AccessTokenAsRefresh,
    #[error("A newer refresh token of this session was issued moments ago; use that one.")]
    RefreshSuperseded,
    #[error("This refresh token was already used, so its session has ended; sign in again.")]
    RefreshReused,
    #[error("You are not allowed to do this.")]
    Forbidden,
    #[error("There is nothing at this address.")]
    NotFound,
    #[error("Registration is closed.")]
    RegistrationClosed,
    #[error("An account with this e-mail already exists.")]
    EmailTaken,
    #[error("An account with this username already exists.")]
    UsernameTaken,
    #[error("Too many sign-ins are waiting; try again in a moment.")]
    Overloaded,
    /// This replica could not read the revocation feed for `revocation.max_staleness`, so the token may have been revoked.
    #[error("The service cannot check now whether this token was revoked; try again in a moment.")]
    RevocationsStale,
    /// The database is unavailable. The reason is for the log only.
    #[error("The service cannot use its database now; try again in a moment.")]
    Unavailable(String),
    /// A bug in Signet. The reason is for the log only.
    #[error("An internal error occurred.")]
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
