//! How each type of setting is written. A fault says what would be right and never repeats the value.

use crate::domain::{Algorithm, Email, Seconds, UserIdField};
use config::{Value, ValueKind};
use ipnet::IpNet;
use secrecy::SecretString;
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZero,
    ops::Deref,
    path::PathBuf,
    time::Duration,
};
use strum::{EnumString, IntoStaticStr, VariantNames};
use url::Url;

/// The type of a setting: a [`Scalar`], an optional one or a list. A missing key is an empty text.
pub(super) trait Setting: Sized {
    const SECRET: bool = false;

    fn parse(value: &Value) -> Result<Self, String>;
}

/// A type that is written as one text. From the environment every value comes as text, from TOML with a type.
pub(super) trait Scalar: Sized {
    const SECRET: bool = false;

    fn parse(text: &str) -> Result<Self, String>;
}

fn text(value: &Value) -> Result<String, String> {
    match &value.kind {
        ValueKind::Array(_) | ValueKind::Table(_) => Err("must be a single value".to_owned()),
        scalar => Ok(scalar.to_string()),
    }
}

impl<T: Scalar> Setting for T {
    const SECRET: bool = T::SECRET;

    fn parse(value: &Value) -> Result<Self, String> {
        T::parse(&text(value)?)
    }
}

/// An empty text means that nothing is set, as `NAME=` does in a container's environment.
impl<T: Scalar> Setting for Option<T> {
    const SECRET: bool = T::SECRET;

    fn parse(value: &Value) -> Result<Self, String> {
        let text = text(value)?;
        if text.is_empty() { Ok(None) } else { T::parse(&text).map(Some) }
    }
}

/// An array in TOML, separated by commas in the environment.
impl<T: Scalar> Setting for Vec<T> {
    fn parse(value: &Value) -> Result<Self, String> {
        if let ValueKind::Array(items) = &value.kind {
            return items.iter().map(|item| T::parse(text(item)?.trim())).collect();
        }
        let list = text(value)?;
        list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(T::parse).collect()
    }
}

/// Shows a value as TOML writes it.
pub(super) fn show(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Implements [`Scalar`] for types: what each must be, and how it is parsed.
macro_rules! scalars {
    ($($type:ty: $form:literal, $parse:expr;)*) => {$(
        impl Scalar for $type {
            fn parse(text: &str) -> Result<Self, String> {
                let parse: fn(&str) -> Option<Self> = $parse;
                parse(text).ok_or_else(|| concat!("must be ", $form).to_owned())
            }
        }
    )*};
}
scalars! {
    String: "a text", |text| Some(text.to_owned());
    PathBuf: "a path", |text| Some(text.into());
    bool: "true or false", |text| text.trim().parse().ok();
    u32: "a whole number", |text| text.trim().parse().ok();
    NonZero<usize>: "a whole number from 1", |text| text.trim().parse().ok();
    SocketAddr: "an address and a port such as 127.0.0.1:8000", |text| text.trim().parse().ok();
    IpNet: "networks such as 192.0.2.0/28, or addresses", |text| {
        text.parse().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.to_canonical().into()))
    };
    Duration: "a duration such as 500ms, 30s, 5m, 12h or 1d", |text| humantime::parse_duration(text).ok();
    MaxStaleness: "a duration such as 60s, or never", |text| match text {
        "never" => Some(Self::Never),
        _ => humantime::parse_duration(text).ok().map(Self::After),
    };
    Rate: "a rate such as 5/s, 30/m or 100/h", |text| {
        let (count, per) = text.split_once('/')?;
        let per = match per {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        Some(Self { count: count.parse().ok()?, per: Duration::from_secs(per) })
    };
    Origin: "origins such as https://app.example.com, without a path or a slash at the end, or *", |text| {
        // A wildcard within an origin would match nothing.
        let is_exact = || Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text);
        (text == "*" || !text.contains('*') && is_exact()).then(|| Self(text.to_owned()))
    };
    HttpUrl: "a URL such as https://id.example.com", |text| {
        let has_host = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        // `Url` alone would ignore blanks, accept a missing slash and encode other characters.
        let is_exact = text.contains("://") && text.chars().all(|c| c.is_ascii_graphic());
        (is_exact && Url::parse(text).as_ref().is_ok_and(has_host)).then(|| Self(text.to_owned()))
    };
    BasePath: "empty, or a path such as /id without a slash at its end", |text| {
        // Clients remove `.` and `..` from an address.
        let is_segment = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(is_plain);
        let is_path = || text.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment));
        (text.is_empty() || is_path()).then(|| Self(text.to_owned()))
    };
    HeaderName: "the name of an HTTP header", |text| {
        (!text.is_empty() && text.chars().all(is_plain)).then(|| Self(text.to_owned()))
    };
    MemberName: "a name of letters, digits, _ and -", |text| {
        let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        ((1..=64).contains(&text.len()) && is_name).then(|| Self(text.to_owned()))
    };
}

pub(super) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.~".contains(c)
}

impl Scalar for SecretString {
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl Scalar for Email {
    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|fault| fault.to_string())
    }
}

impl Scalar for Seconds {
    fn parse(text: &str) -> Result<Self, String> {
        let length = <Duration as Scalar>::parse(text)?;
        if length.subsec_nanos() != 0 {
            return Err("must be whole seconds, because tokens count whole seconds".to_owned());
        }
        // No sum of 100 years and a time of today overflows.
        let seconds = i64::try_from(length.as_secs()).ok().filter(|seconds| *seconds <= 3_155_760_000);
        seconds.map(Self).ok_or_else(|| "must be at most 100 years".to_owned())
    }
}

/// Who may list all users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Listing {
    Authenticated,
    Staff,
}

/// Who may create users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum RegistrationMode {
    Open,
    Staff,
    Closed,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum LogFormat {
    Pretty,
    Json,
}

/// The `typ` of access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, IntoStaticStr)]
pub enum TokenType {
    /// RFC 9068 §2.1.
    #[strum(serialize = "at+jwt")]
    AccessToken,
    /// For verifiers that accept no other one.
    #[strum(serialize = "JWT")]
    Jwt,
}

/// Implements [`Scalar`] for enums.
macro_rules! enums {
    ($($type:ty),*) => {$(
        impl Scalar for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("must be one of {}", Self::VARIANTS.join(", ")))
            }
        }
    )*};
}
enums!(Algorithm, Listing, LogFormat, RegistrationMode, TokenType, UserIdField);

/// A number of requests in a length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: NonZero<u32>,
    pub per: Duration,
}

/// How long tokens are trusted while the feed of revocations cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxStaleness {
    After(Duration),
    Never,
}

/// Declares types for text that was checked.
macro_rules! checked_texts {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
    )*};
}
checked_texts! {
    /// The scheme, host and port of a page whose scripts may read responses, as browsers send it; or `*` for any.
    Origin
    /// An absolute URL.
    HttpUrl
    /// The prefix of every route.
    BasePath
    /// The name of an HTTP header.
    HeaderName
    /// The name of a member of a JSON object.
    MemberName
}
