//! Reads a request body: its headers, its bytes within limits of size and time, and the JSON object in it.

use super::members::{self, Members};
use crate::http::{
    State,
    connection::body_is_read,
    problem::{Code, Problem},
};
use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web};
use futures_util::{StreamExt, future::LocalBoxFuture};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use std::fmt;
use tokio::time::timeout;

/// The longest body, in bytes.
pub const MAX_BODY: usize = 16 * 1024;

/// Extracts a request from the body.
pub struct Body<T>(pub T);

impl<T: Members + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let checked = check_headers(request);
        let end = end_before_upgrade(request);
        let limit = request.app_data::<web::Data<State>>().map(|state| state.request_timeout);
        let (payload, request) = (payload.take(), request.clone());
        Box::pin(async move {
            checked?;
            let bytes = match limit {
                // A client that sends its body slowly must not hold the connection for ever.
                Some(limit) => {
                    timeout(limit, read(payload, end)).await.map_err(|_| Problem::Plain(Code::REQUEST_TIMEOUT))??
                }
                None => read(payload, end).await?,
            };
            body_is_read(&request);
            parse(&bytes).map(Self)
        })
    }
}

/// Refuses a body by its headers, before a byte of it is read.
fn check_headers(request: &HttpRequest) -> Result<(), Problem> {
    let text = |name: header::HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            // The registered name is `utf-8`, but many clients write `utf8`.
            let value = value.trim().trim_matches('"');
            ["utf-8", "utf8"].iter().any(|name| value.eq_ignore_ascii_case(name))
        }
        _ => true,
    });
    let is_plain = text(header::CONTENT_ENCODING).is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
    if !(is_json && is_utf8 && is_plain) {
        return Err(Problem::Plain(Code::UNSUPPORTED_MEDIA_TYPE));
    }
    if announced_length(request).is_some_and(|length| length > MAX_BODY) {
        return Err(Problem::Plain(Code::PAYLOAD_TOO_LARGE));
    }
    Ok(())
}

fn announced_length(request: &HttpRequest) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The length of the body of a request that offers an upgrade: actix-http would read such a body until the connection
/// ends.
fn end_before_upgrade(request: &HttpRequest) -> Option<usize> {
    let headers = request.headers();
    let is_cut = headers.contains_key(header::UPGRADE) && !headers.contains_key(header::TRANSFER_ENCODING);
    is_cut.then(|| announced_length(request).unwrap_or(0))
}

/// Reads to the end of the payload, or to `end`.
async fn read(mut payload: Payload, end: Option<usize>) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while end.is_none_or(|end| bytes.len() < end)
        && let Some(chunk) = payload.next().await
    {
        let chunk = chunk.map_err(|_| Problem::Malformed("The body could not be read to its end.".to_owned()))?;
        if bytes.len() + chunk.len() > MAX_BODY {
            return Err(Problem::Plain(Code::PAYLOAD_TOO_LARGE));
        }
        bytes.extend_from_slice(&chunk);
    }
    if let Some(end) = end {
        bytes.truncate(end);
    }
    Ok(bytes)
}

fn parse<T: Members>(bytes: &[u8]) -> Result<T, Problem> {
    let Object(members) = serde_json::from_slice(bytes).map_err(|error| {
        // The position helps; the parser's own message could quote the body.
        let (line, column) = (error.line(), error.column());
        Problem::Malformed(format!(
            "The body must be a JSON object, in which no object repeats a member; reading stopped at line {line}, column \
             {column}."
        ))
    })?;
    members::read(members)
}

/// The members of an object in their order, repeated ones included.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, Unique(value))) = map.next_entry()? {
                    pairs.push((name, value));
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A value whose objects, at any depth, repeat no member: `serde_json` alone would keep the last one.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Unique, E> {
                Ok(Unique(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
                let mut values = Vec::new();
                while let Some(Unique(value)) = items.next_element()? {
                    values.push(value);
                }
                Ok(Unique(values.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
                let mut members = Map::new();
                while let Some((name, Unique(value))) = map.next_entry::<String, _>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a repeated member"));
                    }
                }
                Ok(Unique(members.into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deserr::Deserr;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Deserr)]
    #[deserr(deny_unknown_fields)]
    struct Pair {
        one: String,
        #[deserr(default)]
        two: Option<String>,
    }

    impl Members for Pair {}

    fn pointers(body: &str) -> Vec<String> {
        match parse::<Pair>(body.as_bytes()) {
            Err(Problem::Members(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        assert_eq!(pointers(r#"{"one":1,"two":[],"three":3,"four":4}"#), ["/one", "/two", ""]);
        assert_eq!(pointers(r#"{"two":1,"three":3,"one":1}"#), ["/two", "/one", ""], "in the order of the body");
        assert_eq!(pointers(r#"{"one":null,"two":null,"three":null}"#), ["/one", ""]);
        assert_eq!(pointers(r#"{"one":"a","two":null,"two":"b"}"#), ["/two"]);
        assert_eq!(pointers(r#"{"one":"a","one":"b"}"#), ["/one"]);
        assert_eq!(pointers(r#"{"two":"a","two":"b","two":"c"}"#), ["/two", "/one"]);
        assert_eq!(pointers("{}"), ["/one"]);
    }

    #[test]
    fn a_valid_object_is_read() {
        let pair = parse::<Pair>(br#" {"two":"b","one":"a"} "#);
        assert_eq!(pair.ok(), Some(Pair { one: "a".into(), two: Some("b".into()) }));
        let pair = parse::<Pair>(br#"{"two":null,"one":"a"}"#);
        assert_eq!(pair.ok(), Some(Pair { one: "a".into(), two: None }), "`null` means absent");
    }

    #[test]
    fn a_value_is_read_as_serde_json_reads_it_unless_it_repeats_a_member() {
        for text in [
            "null",
            "true",
            "-7",
            "18446744073709551615",
            "1.5e300",
            r#""a\u0000\ud83e\udd80""#,
            r#"[1,[2,{"a":{"b":[]}}],{"a":1},{"a":2}]"#,
        ] {
            let read = serde_json::from_str(text).map(|Unique(value)| value);
            assert_eq!(read.ok(), serde_json::from_str(text).ok(), "{text}");
        }
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#] {
            assert!(serde_json::from_str::<Unique>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_a_body_never_panics(body in any::<Vec<u8>>(), json in "[\\[\\]{}\",:0-9a-z\\\\ ]{0,40}") {
            let _ = parse::<Pair>(&body);
            let _ = parse::<Pair>(json.as_bytes());
        }
    }
}
