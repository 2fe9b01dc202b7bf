//! `database.url`: what may stand in it.
//!
//! A parameter that is misspelt is a fault and never ignored: a connection must not be less safe than its address looks.

use super::value::Setting;
use config::Value;
use pem::Pem;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use secrecy::{ExposeSecret, SecretString};
use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use url::Url;

/// Where the database is. It may hold a password.
#[derive(Clone)]
pub struct DatabaseUrl(SecretString);

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl([redacted])")
    }
}

impl DatabaseUrl {
    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }

    /// The file of `sqlite://…`.
    pub(super) fn sqlite_path(&self) -> Option<PathBuf> {
        let path = self.expose_secret().strip_prefix("sqlite:")?;
        Some(path.strip_prefix("//").unwrap_or(path).into())
    }
}

impl Setting for DatabaseUrl {
    const SECRET: bool = true;

    fn parse(value: &Value) -> Result<Self, String> {
        let url = String::parse(value)?;
        let url = match url.strip_prefix("sqlite:") {
            Some(path) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                // SQLite itself would take `file:` for the beginning of a URL.
                let is_file = !path.is_empty() && !path.ends_with('/') && !path.starts_with("file:");
                if !is_file || path.contains(":memory:") || path.contains('?') {
                    return Err("must name a file, without parameters: sqlite://data/signet.db".to_owned());
                }
                url
            }
            None => postgres(&url)?,
        };
        Ok(Self(url.into()))
    }
}

/// What `sslmode` can be, as libpq has it.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// What else the address of a PostgreSQL can say.
const KNOWN: &str = "sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, port, dbname, user, password, \
     application_name, options, statement-cache-capacity";

/// Reads the address of a PostgreSQL, and writes it so that the driver makes of it what libpq would.
///
/// # Errors
/// What is wrong. Neither a value nor the name of an unknown parameter is repeated: an unescaped `?` in a password makes
/// a part of it look like one.
fn postgres(text: &str) -> Result<String, String> {
    const WHAT: &str = "must be sqlite://file.db or postgres://user:password@host/database";
    let mut url = Url::parse(&with_host(text)).map_err(|_| WHAT)?;
    if !matches!(url.scheme(), "postgres" | "postgresql") || url.cannot_be_a_base() || url.port() == Some(0) {
        return Err(WHAT.to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment: write # as %23 and ? as %3F".to_owned());
    }
    for part in [url.username(), url.password().unwrap_or_default(), url.path()] {
        let text = percent_encoding::percent_decode_str(part).decode_utf8();
        if text.is_err() || text.is_ok_and(|text| text.contains('\0')) {
            return Err("has percent signs that stand for no text: write % as %25".to_owned());
        }
    }

    let mut pairs: Vec<(String, String)> = Vec::new();
    for (number, (name, value)) in (1..).zip(url.query_pairs()) {
        let name = canonical(&name)
            .ok_or_else(|| format!("has an unknown parameter, number {number}; the known ones are {KNOWN}"))?;
        if pairs.iter().any(|(known, _)| *known == name && name != "options") {
            return Err(format!("must have {name} only once"));
        }
        check_parameter(&name, &value)?;
        pairs.push((name, value.into_owned()));
    }
    if let Some(url::Host::Ipv6(address)) = url.host()
        && !pairs.iter().any(|(name, _)| name.starts_with("host"))
    {
        // The driver would look the address up with its brackets.
        pairs.push(("hostaddr".to_owned(), address.to_string()));
    }
    let has = |name: &str| pairs.iter().any(|(known, _)| known == name);
    if has("sslcert") != has("sslkey") {
        return Err("must have sslcert and sslkey together".to_owned());
    }
    let value = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    check_tls(value("sslrootcert"), value("sslcert").zip(value("sslkey")))?;
    if has("sslrootcert") {
        match pairs.iter_mut().find(|(name, _)| name == "sslmode").map(|(_, mode)| mode) {
            // With a certificate to check against, libpq does check it. The driver would not.
            Some(mode) if mode == "require" => "verify-ca".clone_into(mode),
            Some(mode) if mode.starts_with("verify-") => {}
            _ => {
                return Err(
                    "has sslrootcert without a use: add sslmode=verify-full (or verify-ca, which checks no name)"
                        .to_owned(),
                );
            }
        }
    }
    if pairs.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    Ok(url.into())
}

/// `postgres://user@/database?host=/socket` has no host where one belongs; libpq takes it, and so do the manuals of cloud
/// providers.
fn with_host(text: &str) -> String {
    let rest = text.find("://").map(|scheme| scheme + 3).unwrap_or_default();
    let end = text[rest..].find(['/', '?', '#']).map_or(text.len(), |end| rest + end);
    // Another `@` would be one of a password that holds a slash.
    let host = if text[..end].ends_with('@') && !text[end..].contains('@') { "localhost" } else { "" };
    format!("{}{host}{}", &text[..end], &text[end..])
}

/// The one spelling of a parameter that the driver knows; `None` for what it would ignore.
fn canonical(name: &str) -> Option<String> {
    let name = match name {
        "ssl-mode" => "sslmode",
        "ssl-root-cert" | "ssl-ca" => "sslrootcert",
        "ssl-cert" => "sslcert",
        "ssl-key" => "sslkey",
        other => other,
    };
    let is_option = name.strip_prefix("options[").is_some_and(|name| name.ends_with(']'));
    (is_option || KNOWN.split(", ").any(|known| known == name)).then(|| name.to_owned())
}

fn check_parameter(name: &str, value: &str) -> Result<(), String> {
    let must = |is_right: bool, what: &str| if is_right { Ok(()) } else { Err(format!("{name} must be {what}")) };
    match name {
        "sslmode" => must(SSL_MODES.contains(&value), &format!("one of {}", SSL_MODES.join(", "))),
        "hostaddr" => must(value.parse::<IpAddr>().is_ok(), "an IP address"),
        "port" => must(value.parse::<u16>().is_ok_and(|port| port > 0), "a port"),
        "statement-cache-capacity" => must(value.parse::<u32>().is_ok_and(|size| size > 0), "a whole number from 1"),
        _ => Ok(()),
    }
}

/// Reads what TLS is to use as the driver will: certificates that can be trusted, and a key that belongs to its certificate.
///
/// # Errors
/// Which parameter is wrong, and what it must be.
fn check_tls(root: Option<&str>, client: Option<(&str, &str)>) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    if let Some(root) = root {
        let is_right = certificates(root).is_some_and(|all| all.into_iter().all(|one| roots.add(one).is_ok()));
        if !is_right {
            return Err("sslrootcert must be a file of certificates in PEM that can be read".to_owned());
        }
    }
    let Some((certificate, key)) = client else { return Ok(()) };
    let Some(chain) = certificates(certificate) else {
        return Err("sslcert must be a file of certificates in PEM that can be read".to_owned());
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let is_right = || {
        let keys = blocks(key)?.into_iter().filter(|block| block.tag().ends_with("PRIVATE KEY"));
        let key = keys.map(|block| PrivateKeyDer::try_from(block.into_contents())).next()?.ok()?;
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
        config.with_root_certificates(roots).with_client_auth_cert(chain, key).ok()
    };
    match is_right() {
        Some(_) => Ok(()),
        None => Err("sslkey must be a file with the private key of sslcert in PEM, not encrypted".to_owned()),
    }
}

fn certificates(value: &str) -> Option<Vec<CertificateDer<'static>>> {
    let blocks = blocks(value)?.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    Some(blocks.map(|block| block.into_contents().into()).collect::<Vec<_>>()).filter(|all| !all.is_empty())
}

/// The PEM of a file, or of the value itself.
fn blocks(value: &str) -> Option<Vec<Pem>> {
    let text = if value.starts_with("-----BEGIN") {
        value.to_owned()
    } else if Path::new(value).metadata().is_ok_and(|file| file.is_file()) {
        fs::read_to_string(value).ok()?
    } else {
        return None;
    };
    pem::parse_many(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_what_libpq_makes_of_it() {
        let file = |name: &str| format!("{}/tests/interop/keys/{name}", env!("CARGO_MANIFEST_DIR"));
        let (ca, key, other) = (file("certificate.pem"), file("certificate-key.pem"), file("p384-pkcs8.pem"));
        let taken = [
            ("postgres://a:b@db/signet".to_owned(), "postgres://a:b@db/signet".to_owned()),
            ("postgresql://a@db:5433".to_owned(), "postgresql://a@db:5433".to_owned()),
            (
                "postgres://a:b@/signet?host=/run/pg".to_owned(),
                "postgres://a:b@localhost/signet?host=%2Frun%2Fpg".to_owned(),
            ),
            (
                "postgres://db/signet?ssl-mode=verify-full".to_owned(),
                "postgres://db/signet?sslmode=verify-full".to_owned(),
            ),
            ("postgres://a@[::1]:5433/signet".to_owned(), "postgres://a@[::1]:5433/signet?hostaddr=%3A%3A1".to_owned()),
            (
                format!("postgres://db/signet?sslmode=require&sslrootcert={ca}"),
                format!("postgres://db/signet?sslmode=verify-ca&sslrootcert={}", ca.replace('/', "%2F")),
            ),
        ];
        assert!(postgres(&format!("postgres://db/signet?sslmode=require&sslcert={ca}&sslkey={key}")).is_ok());
        for (text, means) in taken {
            assert_eq!(postgres(&text).as_deref(), Ok(&*means), "{text}");
        }
        let refused = [
            ("mysql://db/signet".to_owned(), "must be sqlite://"),
            ("postgres://".to_owned() + "a b@:x", "must be sqlite://"),
            ("postgres://db/signet?sslmod=verify-full".to_owned(), "unknown parameter, number 1"),
            ("postgres://db/signet?sslmode=require&ssl=verify-full".to_owned(), "unknown parameter, number 2"),
            ("postgres://db/signet?channel_binding=require".to_owned(), "unknown parameter"),
            ("postgres://db/signet?sslmode=verify_full".to_owned(), "sslmode must be one of"),
            ("postgres://db/signet?sslmode=verify-full&sslmode=disable".to_owned(), "only once"),
            ("postgres://db/signet?sslmode=verify-full&sslrootcert=/nowhere.pem".to_owned(), "sslrootcert must be"),
            ("postgres://db/signet?sslmode=verify-full&sslrootcert=/dev/null".to_owned(), "sslrootcert must be"),
            (format!("postgres://db/signet?sslrootcert={ca}"), "without a use"),
            (format!("postgres://db/signet?sslmode=prefer&sslrootcert={ca}"), "without a use"),
            (format!("postgres://db/signet?sslcert={ca}"), "together"),
            (format!("postgres://db/signet?sslcert={ca}&sslkey={other}"), "sslkey must be"),
            (format!("postgres://db/signet?sslcert={key}&sslkey={key}"), "sslcert must be"),
            (format!("postgres://db/signet?sslmode=verify-full&sslrootcert={key}"), "sslrootcert must be"),
            ("postgres://db/signet?port=many".to_owned(), "port must be"),
            ("postgres://db/signet?hostaddr=db".to_owned(), "hostaddr must be"),
            ("postgres://a:hunter2#x@db/signet".to_owned(), ""),
            ("postgres://a:100%ff@db/signet".to_owned(), "percent"),
            ("postgres://a:b%00@db/signet".to_owned(), "percent"),
            ("postgres:db".to_owned(), "must be sqlite://"),
            ("postgres://db:0/signet".to_owned(), "must be sqlite://"),
            ("postgres://a:hunter2@/x@db/signet".to_owned(), "must be sqlite://"),
        ];
        for (text, why) in refused {
            let fault = postgres(&text).expect_err(&text);
            assert!(fault.contains(why) && !fault.contains("hunter2"), "{text}: {fault}");
        }
        let fault = postgres("postgres://a:b?hunter2&c=d@db/signet").unwrap_err();
        assert!(!fault.contains("hunter2"), "{fault}");
    }
}
