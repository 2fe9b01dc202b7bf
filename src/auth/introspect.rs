//! Introspects (RFC 7662) and revokes (RFC 7009) tokens for clients.

use super::{Auth, AuthError};
use crate::{
    domain::{AccessToken, AuditContext, Subject, Timestamp},
    storage::Trust,
    tokens::Expected,
};
use serde_json::{Map, Value};

impl Auth {
    /// The claims of an access token, from memory; `None` if it is not active. Roles, username and a user's own claims
    /// are those of the last sign-in or refresh. The token may be for any audience: the client must check `aud`.
    ///
    /// # Errors
    /// [`AuthError::RevocationsStale`].
    pub fn introspect(&self, token: &str, now: Timestamp) -> Result<Option<Map<String, Value>>, AuthError> {
        Ok(self.active(token, now)?.map(|_| self.tokens.claims(token)))
    }

    /// Revokes a token: an access token alone, a refresh token with its session. Succeeds for a token that is not valid
    /// (RFC 7009 §2.2).
    ///
    /// # Errors
    /// [`AuthError::RevocationsStale`], or the database is unavailable.
    pub async fn revoke(&self, token: &str, context: &AuditContext) -> Result<(), AuthError> {
        if let Some(AccessToken { id, subject }) = self.active(token, context.at)? {
            let user = match subject {
                Subject::User { id, .. } => Some(id),
                Subject::Client(_) => None,
            };
            return Ok(self.storage.revoke_token(id, user, context).await?);
        }
        match self.sign_out(token, context).await {
            Err(AuthError::InvalidToken) => Ok(()),
            ended => ended,
        }
    }

    /// Verifies an access token for any audience; `None` if it is invalid, expired or revoked.
    fn active(&self, token: &str, now: Timestamp) -> Result<Option<AccessToken>, AuthError> {
        let Ok(token) = self.tokens.verify_access(token, Expected::Any, now) else { return Ok(None) };
        match self.storage.trust(&token) {
            Trust::Good => Ok(Some(token)),
            Trust::Revoked => Ok(None),
            Trust::Stale => Err(AuthError::RevocationsStale),
        }
    }
}
