//! A client signs out.

use super::{Auth, AuthError};
use crate::domain::{Action, AuditContext};

impl Auth {
    /// Ends the session of a refresh token. An expired token is accepted, and so is one whose session has ended.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`] if the signature is wrong or the token is not a refresh token, or the database is
    /// unavailable.
    pub async fn sign_out(&self, token: &str, context: &AuditContext) -> Result<(), AuthError> {
        let token = self.tokens.verify_refresh_of_any_age(token).map_err(|_| AuthError::InvalidToken)?;
        Ok(self.storage.end_session(token.session, token.user, Action::Signout, &context.by(token.user)).await?)
    }
}
