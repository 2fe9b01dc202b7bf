//! A user changes the e-mail of the account.

use super::{Auth, AuthError, Caller};
use crate::{
    domain::{Action, AuditContext, Email, Password},
    limits::AddressLimit,
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
        let context = &context.by(caller.user.id);
        // The reply reveals whether an account has the e-mail.
        self.check_address(AddressLimit::Create, context.address)?;
        let verified = self.confirm_password(&caller.user, password, Action::EmailChange, context).await?;
        match self.storage.change_email(&caller.user, &verified, &email, context).await? {
            Changed::User(_) => Ok(()),
            Changed::EmailTaken => Err(AuthError::EmailTaken),
            Changed::UsernameTaken => Err(AuthError::UsernameTaken),
            // The password was changed, or the user was deactivated, while this request was hashing.
            Changed::Refused(()) | Changed::NotFound | Changed::LastSuperuser => Err(AuthError::InvalidCredentials),
        }
    }
}
