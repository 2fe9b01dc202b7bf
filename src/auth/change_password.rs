//! A user changes the password.

use super::{Auth, AuthError, Caller};
use crate::{
    domain::{Action, AuditContext, LoginName, Password},
    limits::AddressLimit,
    passwords::Verdict,
};

/// The current password and the new one.
#[derive(Debug, Clone)]
pub struct PasswordChange {
    pub current: Password,
    pub new: Password,
}

impl Auth {
    /// Sets a new password and ends every other session of the caller: a client that knew the old password is signed out.
    ///
    /// # Errors
    /// The new password is weak, the current one is wrong, or the service is overloaded or unavailable.
    pub async fn change_password(
        &self,
        caller: &Caller,
        change: PasswordChange,
        context: &AuditContext,
    ) -> Result<(), AuthError> {
        let (id, context) = (caller.user.id, &context.by(caller.user.id));
        self.check_address(AddressLimit::SignIn, context.address)?;
        self.user_admin.check_length(&change.new)?;
        let login = LoginName::email(caller.user.email.as_str());
        let attempt = self.begin_attempt(&login, context).await?;
        let changed = self.change_if_right(caller, &change, context).await;
        match &changed {
            Ok(()) => self.note_success(attempt).await,
            Err(AuthError::InvalidCredentials) => {
                self.note_failure(attempt, Action::PasswordChange, Some(id), context).await;
            }
            Err(_) => {}
        }
        changed
    }

    async fn change_if_right(
        &self,
        caller: &Caller,
        change: &PasswordChange,
        context: &AuditContext,
    ) -> Result<(), AuthError> {
        // While this request hashes, a sign-in may rehash the same password with new parameters, or another request may
        // change it. The second attempt tells the two apart: after a change the password is wrong.
        let is_changed =
            self.try_to_change(caller, change, context).await? || self.try_to_change(caller, change, context).await?;
        is_changed.then_some(()).ok_or(AuthError::InvalidCredentials)
    }

    /// Changes the password if `current` is right; `false` if the stored hash was replaced while this request was hashing.
    async fn try_to_change(
        &self,
        caller: &Caller,
        change: &PasswordChange,
        context: &AuditContext,
    ) -> Result<bool, AuthError> {
        let stored = self.storage.password_hash(caller.user.id).await?;
        let verdict =
            self.passwords.verify(self.passwords.try_acquire()?, change.current.clone(), stored.clone()).await?;
        let (Some(verified), Verdict::Right { .. }) = (stored, verdict) else {
            return Err(AuthError::InvalidCredentials);
        };
        let new = self.passwords.hash_new(change.new.clone(), caller.user.personal_words()).await?;
        Ok(self.storage.change_password(&caller.user, &verified, &new, caller.session, context).await?)
    }
}
