//! A user shows that the e-mail of the account is the user's own.

use super::{Auth, AuthError, Caller};
use crate::{
    domain::{Action, AuditContext, MailKind},
    limits::AddressLimit,
    storage::Account,
};

impl Auth {
    /// Queues a mail with a token and a code to the caller's address.
    ///
    /// # Errors
    /// [`AuthError::NoMail`], [`AuthError::RateLimited`], or the database is unavailable.
    pub async fn request_verification(&self, caller: &Caller, context: &AuditContext) -> Result<(), AuthError> {
        self.mailer()?;
        self.check_address(AddressLimit::Create, context.address)?;
        Ok(self.storage.queue_mail(MailKind::VerifyEmail, caller.user.email.key(), context.at).await?)
    }

    /// Verifies the address that a token was sent to.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`] if the token is wrong, used or expired, or the address has changed;
    /// [`AuthError::RateLimited`], or the database is unavailable.
    pub async fn verify_email_by_token(&self, token: &str, context: &AuditContext) -> Result<(), AuthError> {
        self.mailer()?;
        self.check_address(AddressLimit::SignIn, context.address)?;
        let account = self.check_mail_token(MailKind::VerifyEmail, token, context.at).await?;
        self.set_verified(account, context).await
    }

    /// Verifies the caller's address by a code.
    ///
    /// # Errors
    /// As [`Self::verify_email_by_token`].
    pub async fn verify_email_by_code(
        &self,
        caller: &Caller,
        code: &str,
        context: &AuditContext,
    ) -> Result<(), AuthError> {
        self.mailer()?;
        self.check_address(AddressLimit::SignIn, context.address)?;
        let (kind, address) = (MailKind::VerifyEmail, caller.user.email.key());
        let context = &context.by(caller.user.id);
        let attempt = self.begin_code(kind, address, context).await?;
        let account = self.storage.account(caller.user.id).await?;
        let account = account.filter(|account| !account.user.is_verified);
        if !self.is_mail_code(kind, account.as_ref(), address, code, context.at).await? {
            self.note_failure(attempt, Action::EmailVerify, Some(caller.user.id), context).await;
            return Err(AuthError::InvalidToken);
        }
        self.note_success(attempt).await;
        self.set_verified(account.ok_or(AuthError::InvalidToken)?, context).await
    }

    async fn set_verified(&self, account: Account, context: &AuditContext) -> Result<(), AuthError> {
        let is_set = self.storage.verify_email(&account.user, &context.by(account.user.id)).await?;
        is_set.then_some(()).ok_or(AuthError::InvalidToken)
    }
}
