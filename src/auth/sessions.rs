//! A user lists their sessions, and ends them.

use super::{Auth, AuthError, Caller};
use crate::domain::{Session, SessionId, Timestamp};

impl Auth {
    /// The caller's sessions that are alive, the newest first.
    pub async fn list_sessions(&self, caller: &Caller, now: Timestamp) -> Result<Vec<Session>, AuthError> {
        Ok(self.storage.list_sessions(caller.user.id, now).await?)
    }

    /// Ends one of the caller's sessions, with its refresh and access tokens. [`AuthError::NotFound`] when the session is
    /// another user's, has ended or does not exist.
    pub async fn end_session(&self, caller: &Caller, id: SessionId, now: Timestamp) -> Result<(), AuthError> {
        let was_alive = self.storage.end_session_of(caller.user.id, id, now).await?;
        was_alive.then_some(()).ok_or(AuthError::NotFound)
    }

    /// Ends every session of the caller, this one included.
    pub async fn sign_out_everywhere(&self, caller: &Caller, now: Timestamp) -> Result<(), AuthError> {
        Ok(self.storage.end_sessions(caller.user.id, now).await?)
    }
}
