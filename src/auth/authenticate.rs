//! Verifies an access token, and looks up its user and session.

use super::{Auth, AuthError};
use crate::{
    domain::{AccessToken, Invalid, SessionId, Subject, Timestamp, User},
    storage::Trust,
    tokens::{Expected, Refusal, UnknownAudience},
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
    /// and no lock. The username and roles in the token are those of the last refresh. The token must be for
    /// `audience`, or for Signet itself if that is `None`: a service that receives a token must not be able to use it
    /// elsewhere.
    ///
    /// # Errors
    /// [`AuthError::TokenMissing`], [`AuthError::InvalidToken`], [`AuthError::RefreshTokenAsAccess`],
    /// [`AuthError::RevocationsStale`], or [`AuthError::InvalidMember`] for an audience that is not configured.
    pub fn verify(
        &self,
        presented: Presented,
        audience: Option<&str>,
        now: Timestamp,
    ) -> Result<AccessToken, AuthError> {
        let expected = Expected::Audience(self.audience(audience)?);
        let token = match presented {
            Presented::Nothing => return Err(AuthError::TokenMissing),
            Presented::Malformed => return Err(AuthError::InvalidToken),
            Presented::Token(token) => token,
        };
        let token = self.tokens.verify_access(token, expected, now).map_err(|refusal| match refusal {
            Refusal::WrongType => AuthError::RefreshTokenAsAccess,
            Refusal::Invalid => AuthError::InvalidToken,
        })?;
        match self.storage.trust(&token) {
            Trust::Good => Ok(token),
            Trust::Revoked => Err(AuthError::InvalidToken),
            Trust::Stale => Err(AuthError::RevocationsStale),
        }
    }

    /// The audience of a token: `asked`, or `jwt.audience` if that is `None`.
    ///
    /// # Errors
    /// [`AuthError::InvalidMember`] if it is not configured.
    pub(super) fn audience<'a>(&'a self, asked: Option<&'a str>) -> Result<Option<&'a str>, AuthError> {
        let unknown = Invalid("must be jwt.audience or one of jwt.audiences");
        self.tokens.audience(asked).map_err(|UnknownAudience| AuthError::InvalidMember("/audience", unknown))
    }

    /// Reads the user and the session of a verified token, in one query. So every replica refuses, without delay, a
    /// user who was deactivated or deleted, or whose session has ended.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`], or the database is unavailable.
    pub async fn caller(&self, token: &AccessToken) -> Result<Caller, AuthError> {
        // A client is not a user: it has no account.
        let &Subject::User { id, session, .. } = &token.subject else { return Err(AuthError::InvalidToken) };
        let user = self.storage.active_user_of_session(id, session).await?.ok_or(AuthError::InvalidToken)?;
        Ok(Caller { user, session })
    }
}
