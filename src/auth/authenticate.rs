//! Who is calling: a token that verifies, of a user and a session that are alive.

use super::{Auth, AuthError};
use crate::{
    domain::{AccessToken, SessionId, Timestamp, User},
    storage::Trust,
    tokens::Refusal,
};

/// What the caller put into the authorization header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No header, or one of another scheme.
    Nothing,
    /// Two headers, or one that holds no single token.
    Malformed,
    Token(&'a str),
}

/// An authenticated user.
#[derive(Debug, Clone)]
pub struct Caller {
    pub user: User,
    pub session: SessionId,
}

impl Auth {
    /// Verifies an access token from memory: signature, claims, and whether it was taken back. No query, no lock; what
    /// it says of its user is what was so at the last refresh.
    ///
    /// # Errors
    /// [`AuthError::TokenMissing`], [`AuthError::InvalidToken`], [`AuthError::RefreshTokenAsAccess`], or
    /// [`AuthError::RevocationsStale`].
    pub fn verify(&self, presented: Presented, now: Timestamp) -> Result<AccessToken, AuthError> {
        let token = match presented {
            Presented::Nothing => return Err(AuthError::TokenMissing),
            Presented::Malformed => return Err(AuthError::InvalidToken),
            Presented::Token(token) => token,
        };
        let token = self.tokens.verify_access(token, now).map_err(|refusal| match refusal {
            Refusal::WrongType => AuthError::RefreshTokenAsAccess,
            Refusal::Invalid => AuthError::InvalidToken,
        })?;
        match self.storage.trust(&token) {
            Trust::Good => Ok(token),
            Trust::Revoked => Err(AuthError::InvalidToken),
            Trust::Stale => Err(AuthError::RevocationsStale),
        }
    }

    /// Finds out who is calling with a token that verified, as they are now. User and session are read, in one query:
    /// whoever was deactivated or deleted, or whose session ended, is refused from that moment on every replica.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`], or the database is away.
    pub async fn caller(&self, token: &AccessToken) -> Result<Caller, AuthError> {
        let user = self.storage.active_user_of_session(token.user, token.session).await?;
        let user = user.ok_or(AuthError::InvalidToken)?;
        Ok(Caller { user, session: token.session })
    }
}
