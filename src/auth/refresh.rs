//! Somebody wants a new access token.

use super::{Auth, AuthError};
use crate::{
    crypto::Refusal,
    domain::{Seconds, Timestamp},
};

/// `last_used_at` is exact to a minute, so that most refreshes write nothing.
const LAST_USED_PRECISION: Seconds = Seconds(60);

/// A new access token, and how many seconds it is good for.
#[derive(Debug, Clone)]
pub struct Refreshed {
    pub access_token: String,
    pub expires_in: Seconds,
}

impl Auth {
    /// Answers a new access token for a refresh token, with the user's name and roles as they are now.
    ///
    /// # Errors
    /// [`AuthError::AccessTokenAsRefresh`], [`AuthError::InvalidToken`], or the database is away.
    pub async fn refresh(&self, token: &str, now: Timestamp) -> Result<Refreshed, AuthError> {
        // Checked without the database: a forged, malformed or expired token costs no query.
        let token = self.tokens.verify_refresh(token, now).map_err(|refusal| match refusal {
            Refusal::WrongType => AuthError::AccessTokenAsRefresh,
            Refusal::Invalid => AuthError::InvalidToken,
        })?;

        // Signed out, expired, of another generation, or its user deleted or inactive: one query sees session and user
        // at one moment. (Rotation is not here yet: generation 0 is the only one there is.)
        let Some(session) = self.storage.refreshable(&token, now - self.policy.leeway).await? else {
            return Err(AuthError::InvalidToken);
        };

        if now - session.last_used_at >= LAST_USED_PRECISION {
            // Only the list of sessions would miss this: no reason to refuse, and the storage has logged it.
            let _ = self.storage.touch_session(token.session, now).await;
        }
        let (access_token, expires_in) =
            self.tokens.mint_access(&session.user, token.session, session.absolute_expires_at, now)?;
        Ok(Refreshed { access_token, expires_in })
    }
}
