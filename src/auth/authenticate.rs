//! Who is calling: a token that verifies, of a user and a session that are alive.

use super::{Auth, AuthError};
use crate::{
    crypto::Refusal,
    domain::{SessionId, Timestamp, User},
};

/// What the caller put into the authorization header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    /// No header, or one of another scheme.
    Nothing,
    /// Two headers, or one that holds no single token.
    Malformed,
    Token(String),
}

/// Somebody who proved who they are.
#[derive(Debug, Clone)]
pub struct Caller {
    pub user: User,
    pub session: SessionId,
}

impl Auth {
    /// Finds out who is calling. User and session are read, in one query: whoever was deactivated or deleted, or
    /// whose session ended, is refused from that moment, whatever the token says.
    ///
    /// # Errors
    /// [`AuthError::TokenMissing`], [`AuthError::InvalidToken`], [`AuthError::RefreshTokenAsAccess`], or the database is away.
    pub async fn authenticate(&self, presented: &Presented, now: Timestamp) -> Result<Caller, AuthError> {
        let token = match presented {
            Presented::Nothing => return Err(AuthError::TokenMissing),
            Presented::Malformed => return Err(AuthError::InvalidToken),
            Presented::Token(token) => token,
        };
        let token = self.tokens.verify_access(token, now).map_err(|refusal| match refusal {
            Refusal::WrongType => AuthError::RefreshTokenAsAccess,
            Refusal::Invalid => AuthError::InvalidToken,
        })?;
        let user = self.storage.bearer(token.user, token.session).await?;
        let user = user.ok_or(AuthError::InvalidToken)?;
        Ok(Caller { user, session: token.session })
    }
}
