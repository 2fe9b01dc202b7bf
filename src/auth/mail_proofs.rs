//! What a mail proves: the tokens and codes that show that a client reads mail at an address.
//!
//! Both are MACs over what their use changes, so a use makes them invalid and no table holds them. A token names the
//! account; a code, which is short, is compared with those of the mails of the last hour.

use super::{Auth, AuthError};
use crate::{
    domain::{MailCode, MailKind, Timestamp, UserId},
    storage::{Account, CODES_LAST},
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The part of the MAC that a token has, in bytes.
const TOKEN_MAC: usize = 24;

impl Auth {
    /// The token of a mail that is sent at `now`: `{user}.{time}.{MAC}`.
    pub(super) fn mail_token(&self, kind: MailKind, account: &Account, now: Timestamp) -> String {
        let mac = self.mail_mac(token_label(kind), kind, account, now);
        format!("{}.{}.{}", account.user.id, now.0, URL_SAFE_NO_PAD.encode(&mac[..TOKEN_MAC]))
    }

    /// The code of a mail that is sent at `now`.
    pub(super) fn mail_code(&self, kind: MailKind, account: &Account, now: Timestamp) -> MailCode {
        MailCode::from_mac(self.mail_mac(code_label(kind), kind, account, now))
    }

    /// The account that a token is for, if it is valid.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`], or the database is unavailable.
    pub(super) async fn check_mail_token(
        &self,
        kind: MailKind,
        token: &str,
        now: Timestamp,
    ) -> Result<Account, AuthError> {
        let mut parts = token.split('.');
        let parsed = (|| {
            // Both are digits in their one spelling.
            let (user, time) = (UserId::parse(parts.next()?)?, UserId::parse(parts.next()?)?.0);
            let mac = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
            (parts.next().is_none() && mac.len() == TOKEN_MAC).then_some((user, Timestamp(time), mac))
        })();
        let (user, sent_at, mac) = parsed.ok_or(AuthError::InvalidToken)?;
        if now - sent_at >= CODES_LAST {
            return Err(AuthError::InvalidToken);
        }
        let account = self.storage.account(user).await?.ok_or(AuthError::InvalidToken)?;
        let expected = self.mail_mac(token_label(kind), kind, &account, sent_at);
        let is_valid = account.user.is_active && verify_slices_are_equal(&expected[..TOKEN_MAC], &mac).is_ok();
        is_valid.then_some(account).ok_or(AuthError::InvalidToken)
    }

    /// Whether a code is in one of the mails that this account got in the last hour.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub(super) async fn is_mail_code(
        &self,
        kind: MailKind,
        account: Option<&Account>,
        address: &str,
        code: &str,
        now: Timestamp,
    ) -> Result<bool, AuthError> {
        // Read for an address without an account, too: the time must not reveal whether there is one.
        let times = self.storage.mail_times(kind, address, now).await?;
        let (Some(account), Some(code)) = (account, MailCode::parse(code)) else { return Ok(false) };
        let code = code.to_bytes();
        let is_of = |sent_at: &Timestamp| {
            let expected = self.mail_code(kind, account, *sent_at).to_bytes();
            verify_slices_are_equal(&expected, &code).is_ok()
        };
        Ok(account.user.is_active && times.iter().filter(|sent_at| is_of(sent_at)).count() > 0)
    }

    fn mail_mac(&self, label: &'static str, kind: MailKind, account: &Account, sent_at: Timestamp) -> [u8; 32] {
        let Account { user, password_hash } = account;
        // What the use changes: a verification survives a new password, and a reset survives a verification.
        let state = match kind {
            MailKind::ResetPassword => serde_json::json!(password_hash.as_str()),
            _ => serde_json::json!(user.is_verified),
        };
        let content = serde_json::json!([user.id.0, sent_at.0, user.email.key(), state]);
        self.tokens.mac(label, content.to_string().as_bytes())
    }
}

fn token_label(kind: MailKind) -> &'static str {
    match kind {
        MailKind::ResetPassword => "signet: tokens that reset a password",
        _ => "signet: tokens that verify an e-mail",
    }
}

fn code_label(kind: MailKind) -> &'static str {
    match kind {
        MailKind::ResetPassword => "signet: codes that reset a password",
        _ => "signet: codes that verify an e-mail",
    }
}
