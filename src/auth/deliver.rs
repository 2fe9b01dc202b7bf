//! Sends the mails of the outbox.

use super::Auth;
use crate::{
    domain::{MailKind, QueuedMail, Seconds, Timestamp},
    mail::{Content, MailError, Mailer},
    storage::{Account, StorageError},
};

/// After this time a mail that could not be sent is given up.
const GIVE_UP: Seconds = Seconds(24 * 60 * 60);

/// The longest pause between two tries.
const MAX_PAUSE: Seconds = Seconds(60 * 60);

/// How long a replica may take for one mail before another one sends.
const LEASE: Seconds = Seconds(60);

impl Auth {
    /// Sends the mail that is due first, if this replica, `holder`, is the one that sends. Returns whether there may be another
    /// one.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn deliver_mail(&self, holder: &str, now: Timestamp) -> Result<bool, StorageError> {
        let Some(mailer) = &self.mailer else { return Ok(false) };
        // A look-up first: a replica that has nothing to do writes nothing.
        if self.storage.due_mail(now).await?.is_none() {
            return Ok(false);
        }
        if !self.storage.take_mail_lease(holder, now, now + LEASE).await? {
            return Ok(false);
        }
        // Again: another replica may have sent it before this one became the sender.
        let Some(mail) = self.storage.due_mail(now).await? else { return Ok(false) };
        self.deliver(mailer, &mail, now).await?;
        Ok(true)
    }

    async fn deliver(&self, mailer: &Mailer, mail: &QueuedMail, now: Timestamp) -> Result<(), StorageError> {
        let Some(content) = self.content(mailer, mail, now).await? else {
            // No account, or nothing to prove: no mail.
            return self.storage.finish_mail(mail.id, now).await;
        };
        match mailer.send(mail.kind, &content).await {
            Ok(()) => self.storage.finish_mail(mail.id, now).await,
            Err(MailError::NotNow(reason)) if now - mail.queued_at < GIVE_UP => {
                tracing::warn!(kind = mail.kind.name(), tries = mail.tries + 1, "a mail was not sent yet: {reason}");
                let pause = Seconds(15_i64 << mail.tries.min(20)).min(MAX_PAUSE);
                self.storage.postpone_mail(mail.id, now + pause).await
            }
            Err(error) => {
                tracing::error!(kind = mail.kind.name(), tries = mail.tries + 1, "a mail was given up: {error}");
                self.storage.finish_mail(mail.id, now).await
            }
        }
    }

    /// What a mail says; `None` if none is to be sent.
    async fn content(
        &self,
        mailer: &Mailer,
        mail: &QueuedMail,
        now: Timestamp,
    ) -> Result<Option<Content>, StorageError> {
        let page = match mail.kind {
            MailKind::PasswordChanged | MailKind::EmailChanged | MailKind::ApiKeyCreated => {
                let (email, time) = (mail.address.clone(), mail.queued_at.to_string());
                return Ok(Some(Content { email, time, ..Content::default() }));
            }
            MailKind::ResetPassword => "reset-password",
            MailKind::VerifyEmail => "verify-email",
        };
        let account = self.storage.account_by_email(&mail.address).await?;
        let is_wanted = |account: &Account| {
            account.user.is_active && !(mail.kind == MailKind::VerifyEmail && account.user.is_verified)
        };
        let Some(account) = account.filter(is_wanted) else { return Ok(None) };
        Ok(Some(Content {
            email: account.user.email.as_str().to_owned(),
            link: mailer.link(page, &self.mail_token(mail.kind, &account, now)),
            code: self.mail_code(mail.kind, &account, now).to_string(),
            time: now.to_string(),
        }))
    }
}
