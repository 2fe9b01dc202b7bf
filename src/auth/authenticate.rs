//! Verifies an access token, and looks up its user and session.

use super::{Auth, AuthError};
use crate::{
    domain::{AccessToken, SessionId, Timestamp, User},
    storage::Trust,
    tokens::Refusal,
};

/// The content of the authorization header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No header, or one of another scheme.
    Nothing,
    /// Two headers, or one without exactly one token.
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
    /// Verifies an access token in memory: its signature, its claims, and whether its session has ended. Needs no query
    /// and no lock. The username and roles in the token are those of the last refresh.
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

    /// Reads the user and the session of a verified token, in one query. So every replica refuses, without delay, a
    /// user who was deactivated or deleted, or whose session has ended.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`], or the database is unavailable.
    pub async fn caller(&self, token: &AccessToken) -> Result<Caller, AuthError> {
        let user = self.storage.active_user_of_session(token.user, token.session).await?;
        let user = user.ok_or(AuthError::InvalidToken)?;
        Ok(Caller { user, session: token.session })
    }
}
