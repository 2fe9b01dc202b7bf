//! Where mails go: to an SMTP server, or into a folder.

use super::MailError;
use crate::random::random;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor, transport::smtp::authentication::Credentials,
};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use std::{
    borrow::Cow,
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    time::Duration,
};
use url::Url;

/// How long one mail may take.
const TIMEOUT: Duration = Duration::from_secs(20);

const FORM: &str = "must be smtps://…, smtp://… or file:FOLDER";

type Smtp = AsyncSmtpTransport<Tokio1Executor>;

pub(super) enum Transport {
    Smtp(Smtp),
    Folder(PathBuf),
}

impl Transport {
    /// # Errors
    /// What would be right. It repeats nothing of the address, which may contain a password.
    pub(super) fn parse(url: &SecretString) -> Result<Self, String> {
        let text = url.expose_secret();
        if let Some(folder) = text.strip_prefix("file:") {
            return Ok(Self::Folder(PathBuf::from(folder)));
        }
        let url = Url::parse(text).map_err(|_| FORM.to_owned())?;
        let name = url.host_str().filter(|name| !name.is_empty()).ok_or(FORM)?;
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("must be an address without path and parameters".to_owned());
        }
        let builder = match url.scheme() {
            "smtps" => Smtp::relay(name),
            // Without TLS only where no network is between.
            "smtp" if is_loopback(name) => Ok(Smtp::builder_dangerous(name)),
            "smtp" => Smtp::starttls_relay(name),
            _ => return Err(FORM.to_owned()),
        };
        let mut builder = builder.map_err(|_| FORM.to_owned())?.timeout(Some(TIMEOUT));
        if let Some(port) = url.port() {
            builder = builder.port(port);
        }
        if !url.username().is_empty() {
            let decode = |text: &str| percent_decode_str(text).decode_utf8().map(Cow::into_owned);
            let user = decode(url.username()).map_err(|_| FORM)?;
            let password = decode(url.password().unwrap_or_default()).map_err(|_| FORM)?;
            builder = builder.credentials(Credentials::new(user, password));
        }
        Ok(Self::Smtp(builder.build()))
    }

    pub(super) async fn send(&self, message: Message) -> Result<(), MailError> {
        match self {
            Self::Smtp(server) => match tokio::time::timeout(TIMEOUT, server.send(message)).await {
                Ok(Ok(_)) => Ok(()),
                // By its code alone: the text of a reply may quote the address.
                Ok(Err(error)) if error.is_permanent() || error.is_transient() => {
                    let code = error.status().map(|code| code.to_string()).unwrap_or_default();
                    let reply = format!("the SMTP server replied {code}");
                    // There is no such mailbox. Other refusals are about the sender, the server or this mail.
                    let is_of_mailbox = ["550", "551", "553"].contains(&code.as_str());
                    Err(if is_of_mailbox { MailError::Undeliverable(reply) } else { MailError::NotNow(reply) })
                }
                Ok(Err(error)) if error.is_response() => {
                    Err(MailError::NotNow("the SMTP server replied something that is not SMTP".to_owned()))
                }
                // The connection, TLS, or what the server does not support.
                Ok(Err(error)) => Err(MailError::NotNow(error.to_string())),
                Err(_) => Err(MailError::NotNow("the SMTP server did not reply in time".to_owned())),
            },
            Self::Folder(folder) => {
                let name = folder.join(format!("{:032x}", u128::from_ne_bytes(random())));
                // Renamed when it is complete: another program may be waiting for files.
                // For the owner only: a mail can replace a password.
                let write = DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)
                    .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name))
                    .and_then(|mut file| file.write_all(&message.formatted()))
                    .and_then(|()| fs::rename(&name, name.with_extension("eml")));
                write.map_err(|error| MailError::NotNow(format!("the folder of mails cannot be written: {error}")))
            }
        }
    }
}

/// Whether this is the machine itself. (In an address whose scheme is not HTTP's, `url` takes every host for a name.)
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_smtps_smtp_or_a_folder() {
        let parse = |text: &str| Transport::parse(&text.to_owned().into());
        for text in [
            "smtps://user:p%40ss@mail.example.com",
            "smtp://mail.example.com:587",
            "smtp://127.0.0.1:2525",
            "smtp://[::1]:2525",
            "smtp://localhost",
            "file:data/mail",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in
            ["", "mail.example.com", "http://a.example", "smtp://", "smtp://h/path", "smtp://h?tls=no", "smtp:h"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn plain_smtp_is_for_loopback_only() {
        for host in ["localhost", "127.0.0.1", "127.8.8.8", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["mail.example.com", "10.0.0.1", "::", "localhost.example.com", "127.0.0.1.example.com", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
