//! Verifies the password of a signed-in user again, before a change for which an access token alone is not enough.

use super::{Auth, AuthError};
use crate::{
    domain::{Action, AuditContext, LoginName, Password, PasswordHash, User},
    limits::AddressLimit,
    passwords::Verdict,
};

impl Auth {
    /// Verifies the password of `user`, and returns the hash that it matched. The change must check that this hash is
    /// still the stored one. A wrong password counts as a failed sign-in, and is recorded as a failed `action`.
    ///
    /// # Errors
    /// [`AuthError::InvalidCredentials`], [`AuthError::RateLimited`], or the service is overloaded or unavailable.
    pub(super) async fn confirm_password(
        &self,
        user: &User,
        password: Password,
        action: Action,
        context: &AuditContext,
    ) -> Result<PasswordHash, AuthError> {
        self.check_address(AddressLimit::SignIn, context.address)?;
        let attempt = self.begin_attempt(&LoginName::email(user.email.as_str()), context).await?;
        let stored = self.storage.password_hash(user.id).await?;
        let permit = self.passwords.try_acquire()?;
        let verdict = self.passwords.verify(permit, password, stored.clone()).await?;
        let (Some(verified), Verdict::Right { .. }) = (stored, verdict) else {
            self.note_failure(attempt, action, Some(user.id), context).await;
            return Err(AuthError::InvalidCredentials);
        };
        self.note_success(attempt).await;
        Ok(verified)
    }
}
