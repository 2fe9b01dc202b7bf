//! A user changes the e-mail of the account.

use super::{Auth, AuthError, Caller};
use crate::{
    domain::{Action, AuditContext, Email, LoginName, Password},
    limits::AddressLimit,
    passwords::Verdict,
    storage::Changed,
};

impl Auth {
    /// Sets a new e-mail, which is not verified, after the password was given again. A username that was the old e-mail
    /// follows. A notice goes to the old address, and a mail that verifies to the new one.
    ///
    /// # Errors
    /// The password is wrong, the e-mail is taken, or the service is overloaded or unavailable.
    pub async fn change_email(
        &self,
        caller: &Caller,
        password: Password,
        email: Email,
        context: &AuditContext,
    ) -> Result<(), AuthError> {
        let (id, context) = (caller.user.id, &context.by(caller.user.id));
        // The reply reveals whether an account has the e-mail.
        self.check_address(AddressLimit::Create, context.address)?;
        self.check_address(AddressLimit::SignIn, context.address)?;
        let attempt = self.begin_attempt(&LoginName::email(caller.user.email.as_str()), context).await?;
        let stored = self.storage.password_hash(id).await?;
        let permit = self.passwords.try_acquire()?;
        let verdict = self.passwords.verify(permit, password, stored.clone()).await?;
        let (Some(verified), Verdict::Right { .. }) = (stored, verdict) else {
            self.note_failure(attempt, Action::EmailChange, Some(id), context).await;
            return Err(AuthError::InvalidCredentials);
        };
        self.note_success(attempt).await;
        match self.storage.change_email(&caller.user, &verified, &email, context).await? {
            Changed::User(_) => Ok(()),
            Changed::EmailTaken => Err(AuthError::EmailTaken),
            Changed::UsernameTaken => Err(AuthError::UsernameTaken),
            // The password was changed, or the user was deactivated, while this request was hashing.
            Changed::Refused(()) | Changed::NotFound | Changed::LastSuperuser => Err(AuthError::InvalidCredentials),
        }
    }
}
