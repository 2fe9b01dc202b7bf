//! `database.url`: the addresses that are accepted.
//!
//! A misspelt parameter is a fault and never ignored: a connection must not be less secure than its address says.

use super::values::Scalar;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use secrecy::{ExposeSecret, SecretString};
use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use url::Url;

/// The address of the database. It may contain a password.
#[derive(Debug, Clone)]
pub struct DatabaseUrl {
    url: SecretString,
    /// The file of `sqlite://…`.
    pub(super) sqlite_path: Option<PathBuf>,
}

impl DatabaseUrl {
    pub fn expose_secret(&self) -> &str {
        self.url.expose_secret()
    }
}

impl Scalar for DatabaseUrl {
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix("sqlite:") else {
            return Ok(Self { url: postgres(text)?.into(), sqlite_path: None });
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        // SQLite reads a name that begins with `file:` as a URL.
        let is_file = !path.is_empty() && !path.ends_with('/') && !path.starts_with("file:");
        if !is_file || path.contains(":memory:") || path.contains('?') {
            return Err("must name a file, without parameters: sqlite://data/signet.db".to_owned());
        }
        Ok(Self { url: text.into(), sqlite_path: Some(path.into()) })
    }
}

/// The values of `sslmode`, as in libpq.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The parameters of a PostgreSQL address.
const KNOWN: &str = "sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, port, dbname, user, password, \
     application_name, options, statement-cache-capacity";

/// Reads a PostgreSQL address as libpq does, and writes it so that the driver reads the same.
///
/// # Errors
/// They repeat neither a value nor the name of an unknown parameter: after an unescaped `?` in a password, the rest of the
/// password looks like a parameter.
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
            return Err("has percent signs that encode no text: write % as %25".to_owned());
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
        const UNUSED: &str =
            "has sslrootcert without a use: add sslmode=verify-full (or verify-ca, which checks no name)";
        match pairs.iter_mut().find(|(name, _)| name == "sslmode").map(|(_, mode)| mode) {
            // libpq verifies the server's certificate when there is a root certificate. The driver would not.
            Some(mode) if mode == "require" => "verify-ca".clone_into(mode),
            Some(mode) if mode.starts_with("verify-") => {}
            _ => return Err(UNUSED.to_owned()),
        }
    }
    if pairs.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    Ok(url.into())
}

/// Adds a host to an address without one, such as `postgres://user@/database?host=/socket`, which libpq accepts and cloud
/// providers document.
fn with_host(text: &str) -> String {
    let rest = text.find("://").map(|scheme| scheme + 3).unwrap_or_default();
    let end = text[rest..].find(['/', '?', '#']).map_or(text.len(), |end| rest + end);
    // A further `@` means that this one belongs to a password with a slash.
    let host = if text[..end].ends_with('@') && !text[end..].contains('@') { "localhost" } else { "" };
    format!("{}{host}{}", &text[..end], &text[end..])
}

/// The driver's name of a parameter; `None` for one that the driver would ignore.
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

/// Reads the files of TLS as the driver does.
///
/// # Errors
/// A file cannot be read, a certificate cannot be trusted, or the key does not belong to its certificate.
fn check_tls(root: Option<&str>, client: Option<(&str, &str)>) -> Result<(), String> {
    let certificates = |name: &str, value: &str| {
        let chain = pem(value).and_then(|pem| CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().ok());
        let chain = chain.filter(|chain| !chain.is_empty());
        chain.ok_or_else(|| format!("{name} must be a file of certificates in PEM that can be read"))
    };
    let mut roots = RootCertStore::empty();
    if let Some(root) = root {
        let chain = certificates("sslrootcert", root)?;
        if roots.add_parsable_certificates(chain).1 > 0 {
            return Err("sslrootcert must be a file of certificates that can be trusted".to_owned());
        }
    }
    let Some((certificate, key)) = client else { return Ok(()) };
    let chain = certificates("sslcert", certificate)?;
    let config = || {
        let key = PrivateKeyDer::from_pem_slice(&pem(key)?).ok()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
        config.with_root_certificates(roots).with_client_auth_cert(chain, key).ok()
    };
    let config = config().ok_or("sslkey must be a file with the private key of sslcert in PEM, not encrypted")?;
    drop(config);
    Ok(())
}

/// The content of a file, or the value itself if it is PEM.
fn pem(value: &str) -> Option<Vec<u8>> {
    if value.starts_with("-----BEGIN") {
        return Some(value.into());
    }
    // Opening a named pipe would block.
    Path::new(value).metadata().ok().filter(fs::Metadata::is_file)?;
    fs::read(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_url_is_read_as_libpq_reads_it() {
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
