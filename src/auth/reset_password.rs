//! Replaces a lost password. The token or the code of a mail proves that the client reads the mails of the account.

use super::{Auth, AuthError};
use crate::{
    domain::{Action, AuditContext, Email, MailKind, Password},
    limits::AddressLimit,
};

/// What shows that the client reads the mail of the account.
#[derive(Debug, Clone)]
pub enum MailProof {
    Token(String),
    /// The code, and the e-mail that it was sent to.
    Code {
        email: String,
        code: String,
    },
}

impl Auth {
    /// Queues a mail with a token and a code. Whether the address has an account is looked up when the mail is sent, so
    /// neither the reply nor its time reveals it.
    ///
    /// # Errors
    /// [`AuthError::NoMail`], [`AuthError::RateLimited`], or the database is unavailable.
    pub async fn request_reset(&self, email: &str, context: &AuditContext) -> Result<(), AuthError> {
        self.mailer()?;
        self.check_address(AddressLimit::Create, context.address)?;
        let address = Email::key_of(email);
        // No account can have such an address, and PostgreSQL does not store it.
        if address.len() > 1000 || address.contains('\0') {
            return Ok(());
        }
        Ok(self.storage.queue_mail(MailKind::ResetPassword, &address, context.at).await?)
    }

    /// Sets a new password and ends every session and API key. The address counts as verified.
    ///
    /// # Errors
    /// The token or code is wrong, used or expired ([`AuthError::InvalidToken`]); the password is weak, after which token and
    /// code are still valid; or the service is overloaded or unavailable.
    pub async fn reset_password(
        &self,
        proof: MailProof,
        new: Password,
        context: &AuditContext,
    ) -> Result<(), AuthError> {
        self.mailer()?;
        self.check_address(AddressLimit::SignIn, context.address)?;
        self.user_admin.check_length(&new)?;
        let kind = MailKind::ResetPassword;
        let account = match proof {
            MailProof::Token(token) => self.check_mail_token(kind, &token, context.at).await?,
            MailProof::Code { email, code } => {
                let address = Email::key_of(&email);
                let attempt = self.begin_code(kind, &address, context).await?;
                let account = self.storage.account_by_email(&address).await?;
                if !self.is_mail_code(kind, account.as_ref(), &address, &code, context.at).await? {
                    let id = account.map(|account| account.user.id);
                    self.note_failure(attempt, Action::PasswordReset, id, context).await;
                    return Err(AuthError::InvalidToken);
                }
                self.note_success(attempt).await;
                account.ok_or(AuthError::InvalidToken)?
            }
        };
        let user = account.user;
        let hash = self.passwords.hash_new(new, user.personal_words()).await?;
        let context = context.by(user.id);
        let is_reset = self.storage.reset_password(&user, &account.password_hash, &hash, &context).await?;
        is_reset.then_some(()).ok_or(AuthError::InvalidToken)
    }
}
