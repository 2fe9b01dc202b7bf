//! A client signs out.

use super::{Auth, AuthError};
use crate::domain::Timestamp;

impl Auth {
    /// Ends the session of a refresh token, whatever the token's age: who holds it may end what it began.
    /// Again, or for a user who is gone, it is as good as the first time.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`] for whatever is no rightly signed refresh token, or the database is away.
    pub async fn sign_out(&self, token: &str, now: Timestamp) -> Result<(), AuthError> {
        let token = self.tokens.verify_refresh_of_any_age(token).map_err(|_| AuthError::InvalidToken)?;
        Ok(self.storage.end_session(token.session, now).await?)
    }
}
