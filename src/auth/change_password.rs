//! A user changes the password.

use super::{Auth, AuthError, Caller};
use crate::{
    domain::{Password, Timestamp},
    passwords::Verdict,
};

/// The current password and the new one.
#[derive(Debug, Clone)]
pub struct PasswordChange {
    pub current: Password,
    pub new: Password,
}

impl Auth {
    /// Sets a new password and ends every other session of the caller: an attacker with the old password is signed out.
    pub async fn change_password(
        &self,
        caller: &Caller,
        change: PasswordChange,
        now: Timestamp,
    ) -> Result<(), AuthError> {
        self.user_admin.check_new(&change.new)?;
        // While this request hashes, another request may replace the stored hash. If a sign-in rehashed the same password,
        // the second try succeeds; if the password was changed, the second try fails the verification.
        let is_changed =
            self.try_to_change(caller, &change, now).await? || self.try_to_change(caller, &change, now).await?;
        is_changed.then_some(()).ok_or(AuthError::InvalidCredentials)
    }

    /// Changes the password of a caller who knows it; `false` when the stored hash was replaced during hashing.
    async fn try_to_change(&self, caller: &Caller, change: &PasswordChange, now: Timestamp) -> Result<bool, AuthError> {
        let stored = self.storage.password_hash(caller.user.id).await?;
        let verdict =
            self.passwords.verify(self.passwords.try_acquire()?, change.current.clone(), stored.clone()).await?;
        let (Some(verified), Verdict::Right { .. }) = (stored, verdict) else {
            return Err(AuthError::InvalidCredentials);
        };
        let new = self.passwords.hash(change.new.clone()).await?;
        Ok(self.storage.change_password(caller.user.id, &verified, &new, caller.session, now).await?)
    }
}
