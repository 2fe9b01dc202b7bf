//! How each kind of setting is written. A message says what would be right and never repeats the value.

use crate::domain::{Algorithm, Email, Seconds, UserIdField};
use config::{Value, ValueKind};
use ipnet::IpNet;
use secrecy::SecretString;
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZero,
    ops::Deref,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};
use url::Url;

/// Something that a setting can be. From the environment everything comes as text, from TOML with a type.
pub(super) trait Setting: Sized {
    const SECRET: bool = false;

    fn parse(value: &Value) -> Result<Self, String>;

    /// What a missing key means; `None` where it must be there.
    fn absent() -> Option<Self> {
        None
    }

    fn show(value: &Value) -> String {
        match &value.kind {
            ValueKind::String(text) => format!("{text:?}"),
            ValueKind::Array(items) => format!("[{}]", items.iter().map(Self::show).collect::<Vec<_>>().join(", ")),
            other => other.to_string(),
        }
    }
}

/// The text of a scalar; `what` says what it should have been.
fn text(value: &Value, what: &str) -> Result<String, String> {
    match &value.kind {
        ValueKind::String(text) => Ok(text.clone()),
        ValueKind::Boolean(_) | ValueKind::I64(_) | ValueKind::U64(_) => Ok(value.kind.to_string()),
        _ => Err(format!("must be {what}")),
    }
}

fn from_str<T: FromStr>(value: &Value, what: &str) -> Result<T, String> {
    text(value, what)?.trim().parse().map_err(|_| format!("must be {what}"))
}

/// An empty text means that nothing is set: what `NAME=` in a container's environment means.
impl<T: Setting> Setting for Option<T> {
    const SECRET: bool = T::SECRET;

    fn parse(value: &Value) -> Result<Self, String> {
        match &value.kind {
            ValueKind::String(text) if text.is_empty() => Ok(None),
            _ => T::parse(value).map(Some),
        }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn show(value: &Value) -> String {
        T::show(value)
    }
}

/// A list: an array in TOML, separated by commas in the environment.
impl<T: Item> Setting for Vec<T> {
    fn parse(value: &Value) -> Result<Self, String> {
        if let ValueKind::Array(items) = &value.kind {
            return items.iter().map(|item| T::parse(text(item, "a list of texts")?.trim())).collect();
        }
        let list = text(value, "a list, separated by commas")?;
        list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(T::parse).collect()
    }
}

/// An element of a list.
pub(super) trait Item: Sized {
    fn parse(text: &str) -> Result<Self, String>;
}

impl Item for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

/// A network, or a single address.
impl Item for IpNet {
    fn parse(text: &str) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| address.to_canonical().into()));
        network.map_err(|_| "must be networks such as 10.0.0.0/8, or addresses".to_owned())
    }
}

/// Whence a script comes that may read answers: scheme, host and port, as a browser sends it; or `*` for anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Item for Origin {
    fn parse(text: &str) -> Result<Self, String> {
        // A star within one would match nothing.
        let is_origin =
            !text.contains('*') && Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text);
        if text == "*" || is_origin {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be origins such as https://app.example.com, without a path or a slash at the end, or *"
                .to_owned())
        }
    }
}

impl Deref for Origin {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Setting for String {
    fn parse(value: &Value) -> Result<Self, String> {
        text(value, "a text")
    }
}

impl Setting for SecretString {
    const SECRET: bool = true;

    fn parse(value: &Value) -> Result<Self, String> {
        Ok(text(value, "a text")?.into())
    }
}

impl Setting for PathBuf {
    fn parse(value: &Value) -> Result<Self, String> {
        Ok(text(value, "a path")?.into())
    }
}

/// Scalars that parse themselves, with what they should have been.
macro_rules! parsed {
    ($($type:ty: $what:literal,)*) => {$(
        impl Setting for $type {
            fn parse(value: &Value) -> Result<Self, String> {
                from_str(value, $what)
            }
        }
    )*};
}
parsed! {
    bool: "true or false",
    u32: "a whole number",
    NonZero<usize>: "a whole number from 1",
    SocketAddr: "an address and a port such as 127.0.0.1:8000",
}

impl Setting for Email {
    fn parse(value: &Value) -> Result<Self, String> {
        Email::parse(&text(value, "an e-mail address")?).map_err(|fault| fault.to_string())
    }
}

impl Setting for Algorithm {
    fn parse(value: &Value) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::parse(&text(value, "a word")?).ok_or_else(|| format!("must be one of {}", names()))
    }
}

impl Setting for UserIdField {
    fn parse(value: &Value) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::parse(&text(value, "a word")?).ok_or_else(|| format!("must be one of {}", names()))
    }
}

const A_DURATION: &str = "a duration such as 500ms, 30s, 5m, 12h or 1d";

impl Setting for Duration {
    fn parse(value: &Value) -> Result<Self, String> {
        let text = text(value, A_DURATION)?;
        humantime::parse_duration(&text).map_err(|_| format!("must be {A_DURATION}"))
    }
}

impl Setting for Seconds {
    fn parse(value: &Value) -> Result<Self, String> {
        let length = Duration::parse(value)?;
        if length.subsec_nanos() != 0 {
            return Err("must be whole seconds, as tokens count them".to_owned());
        }
        // A hundred years: far enough, and no sum with a time of today overflows.
        let seconds = i64::try_from(length.as_secs()).ok().filter(|seconds| *seconds <= 3_155_760_000);
        seconds.map(Seconds).ok_or_else(|| "must be at most 100 years".to_owned())
    }
}

/// Declares a setting that is one of a few words.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl Setting for $name {
            fn parse(value: &Value) -> Result<Self, String> {
                const WORDS: &[&str] = &[$($word),*];
                match text(value, "a word")?.as_str() {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("must be one of {}", WORDS.join(", "))),
                }
            }
        }
    )*};
}
words! {
    /// Who may list all users.
    Listing { Authenticated = "authenticated", Staff = "staff", }
    /// Who may create users.
    RegistrationMode { Open = "open", Staff = "staff", Closed = "closed", }
    /// How a log line looks.
    LogFormat { Pretty = "pretty", Json = "json", }
}

/// So many in such a time, written `30/m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: NonZero<u32>,
    pub per: Duration,
}

impl Setting for Rate {
    fn parse(value: &Value) -> Result<Self, String> {
        const WHAT: &str = "a rate such as 5/s, 30/m or 100/h";
        let rate = text(value, WHAT)?;
        let parsed = rate.split_once('/').and_then(|(count, per)| {
            let per = match per {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return None,
            };
            Some(Self { count: count.parse().ok()?, per: Duration::from_secs(per) })
        });
        parsed.ok_or_else(|| format!("must be {WHAT}"))
    }
}

/// How long tokens are trusted while the feed of revocations cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxStaleness {
    After(Duration),
    Never,
}

impl Setting for MaxStaleness {
    fn parse(value: &Value) -> Result<Self, String> {
        match text(value, A_DURATION)?.as_str() {
            "never" => Ok(Self::Never),
            _ => Duration::parse(value).map(Self::After),
        }
    }
}

/// Makes a text type whose values were checked.
macro_rules! checked_text {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $is_right:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl Setting for $name {
            fn parse(value: &Value) -> Result<Self, String> {
                let text = text(value, $what)?;
                let is_right: fn(&str) -> bool = $is_right;
                if is_right(&text) { Ok(Self(text)) } else { Err(concat!("must be ", $what).to_owned()) }
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
    )*};
}
checked_text! {
    /// What goes before every route.
    BasePath, "empty, or a path such as /id without a slash at its end", |text| {
        text.is_empty()
            || text.starts_with('/')
                && text.split('/').skip(1).all(|part| {
                    // Clients take `.` and `..` out of an address.
                    !part.is_empty() && !matches!(part, "." | "..") && part.chars().all(is_plain)
                })
    };
    /// The name of an HTTP header.
    HeaderName, "the name of an HTTP header", |text| !text.is_empty() && text.chars().all(is_plain);
    /// The name of a member of a JSON object.
    MemberName, "a name of letters, digits, _ and -", |text| {
        (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    };
}

pub(super) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.~".contains(c)
}
