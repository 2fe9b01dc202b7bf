//! A user lists and ends sessions.

use super::{Auth, AuthError, Caller};
use crate::{
    domain::{AuditContext, Session, SessionId, Timestamp},
    storage::SignOutScope,
};

impl Auth {
    /// The caller's active sessions, the newest first.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn list_sessions(&self, caller: &Caller, now: Timestamp) -> Result<Vec<Session>, AuthError> {
        Ok(self.storage.list_sessions(caller.user.id, now).await?)
    }

    /// Ends one of the caller's sessions, and with it its refresh and access tokens.
    ///
    /// # Errors
    /// [`AuthError::NotFound`] if the session does not exist, has ended or belongs to another user, or the database is
    /// unavailable.
    pub async fn end_session(&self, caller: &Caller, id: SessionId, context: &AuditContext) -> Result<(), AuthError> {
        let was_alive = self.storage.end_session_of(caller.user.id, id, &context.by(caller.user.id)).await?;
        was_alive.then_some(()).ok_or(AuthError::NotFound)
    }

    /// Ends every session of the caller, this one included, but no API key: programs continue.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn sign_out_everywhere(&self, caller: &Caller, context: &AuditContext) -> Result<(), AuthError> {
        let context = context.by(caller.user.id);
        self.user_admin.sign_out(caller.user.id, SignOutScope::Sessions, &context, |_| Ok(())).await.map(drop)
    }
}
