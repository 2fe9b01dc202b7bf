//! A client signs out.

use super::{Auth, AuthError};
use crate::domain::Timestamp;

impl Auth {
    /// Ends the session of a correctly signed refresh token, even an expired or superseded one. A repeated call succeeds,
    /// and so does a call after the user was deleted.
    pub async fn sign_out(&self, token: &str, now: Timestamp) -> Result<(), AuthError> {
        let token = self.tokens.verify_refresh_of_any_age(token).map_err(|_| AuthError::InvalidToken)?;
        Ok(self.storage.end_session(token.session, now).await?)
    }
}
