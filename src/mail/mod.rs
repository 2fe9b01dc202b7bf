//! Composes mails from templates, and sends them by SMTP or into a folder.

mod templates;
mod transport;

use crate::{
    config::{Mail, Problem},
    domain::MailKind,
    random::random,
};
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};
use templates::Templates;
use transport::Transport;

/// What a mail says. Text that a kind does not need is empty.
#[derive(Debug, Clone, Default)]
pub struct Content {
    pub email: String,
    /// Of a page of the operator's; empty without `mail.link_base`.
    pub link: String,
    pub code: String,
    pub time: String,
}

/// Why a mail was not sent. The text has no address and nothing of the mail.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// Another try cannot help.
    #[error("{0}")]
    Undeliverable(String),
    #[error("{0}")]
    NotNow(String),
}

/// Sends mails as `mail` says.
pub struct Mailer {
    transport: Transport,
    templates: Templates,
    from: Mailbox,
    link_base: Option<String>,
}

impl Mailer {
    /// `None` without `mail.smtp_url`.
    ///
    /// # Errors
    /// The setting at fault.
    pub fn open(settings: &Mail) -> Result<Option<Self>, Problem> {
        let templates = Templates::read(settings.templates_dir.as_deref());
        let templates = templates.map_err(|fault| Problem(&["mail.templates_dir"], fault))?;
        let Some(url) = &settings.smtp_url else { return Ok(None) };
        let transport = Transport::parse(url).map_err(|fault| Problem(&["mail.smtp_url"], fault))?;
        let default = matches!(transport, Transport::Folder(_)).then_some("Signet <signet@localhost>");
        let from = settings.from.as_deref().or(default).and_then(|from| from.parse().ok());
        let fault = "must be the address of the sender, such as Example <id@example.com>";
        let from = from.ok_or_else(|| Problem(&["mail.from", "mail.smtp_url"], fault.to_owned()))?;
        Ok(Some(Self { transport, templates, from, link_base: settings.link_base.as_deref().map(str::to_owned) }))
    }

    /// The page of the operator's that takes this token; empty without `mail.link_base`. The token is in the fragment, which
    /// no browser sends to a server.
    pub fn link(&self, page: &str, token: &str) -> String {
        let base = self.link_base.as_deref().map(|base| base.trim_end_matches('/'));
        base.map(|base| format!("{base}/{page}#token={token}")).unwrap_or_default()
    }

    /// # Errors
    /// The mail could not be handed over.
    pub async fn send(&self, kind: MailKind, content: &Content) -> Result<(), MailError> {
        let to = address(&content.email)
            .ok_or_else(|| MailError::Undeliverable("no mail has such an address".to_owned()))?;
        let (subject, text, html) = self.templates.render(kind, content).map_err(MailError::NotNow)?;
        let id = format!("<{:032x}@{}>", u128::from_ne_bytes(random()), self.from.email.domain());
        // Vacation notices answer no mail with this header (RFC 3834 §5).
        let auto = HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned());
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(subject)
            .message_id(Some(id))
            .raw_header(auto)
            .multipart(MultiPart::alternative_plain_html(text, html))
            .map_err(|error| MailError::Undeliverable(error.to_string()))?;
        self.transport.send(message).await
    }
}

/// The domain in its ASCII form: few servers accept another one (RFC 6531).
fn address(email: &str) -> Option<Address> {
    let (local, domain) = email.rsplit_once('@')?;
    Address::new(local, idna::domain_to_ascii(domain).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_of_an_address_is_sent_in_ascii() {
        let sent = |email: &str| address(email).map(|address| address.to_string());
        assert_eq!(sent("ann@b\u{fc}cher.example").as_deref(), Some("ann@xn--bcher-kva.example"));
        assert_eq!(sent("j\u{fc}rgen@example.com").as_deref(), Some("j\u{fc}rgen@example.com"));
        for email in ["", "ann", "ann@", "a\nb@example.com", &format!("{}@example.com", "a".repeat(65))] {
            assert_eq!(sent(email), None, "{email:?}");
        }
    }
}
