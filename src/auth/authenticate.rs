//! Authenticates the caller: the token verifies, its session has not ended, and its user is active.

use super::{Auth, AuthError};
use crate::{
    crypto::Refusal,
    domain::{AccessToken, SessionId, Timestamp, User},
    storage::Trust,
};

/// What the client sent in the authorization header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No header, or one of another scheme.
    Nothing,
    /// Two headers, or a header that does not contain exactly one token.
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
    /// Verifies an access token from memory: signature, claims and revocation, without a query or a lock. Its claims
    /// about the user are as old as the token.
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

    /// Reads the user and session of a verified token in one query. Every replica refuses the token from the moment the
    /// user is deactivated or deleted, or the session ends.
    pub async fn caller(&self, token: &AccessToken) -> Result<Caller, AuthError> {
        let user = self.storage.active_user_of_session(token.user, token.session).await?;
        let user = user.ok_or(AuthError::InvalidToken)?;
        Ok(Caller { user, session: token.session })
    }
}
