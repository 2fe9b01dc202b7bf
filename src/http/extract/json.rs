//! Reading a JSON object: each member once, none unknown, and every fault at once.

use crate::{
    domain::Invalid,
    http::{
        State,
        connection::body_is_read,
        problem::{MemberFault, Problem},
    },
};
use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web};
use futures_util::{StreamExt, future::LocalBoxFuture};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;
use std::fmt;
use tokio::time::timeout;

/// The longest body, in bytes.
pub const MAX_BODY: usize = 16 * 1024;

/// A request that is read from the members of a JSON object.
pub trait FromJson: Sized {
    /// Takes every member before it gives up on any, so that all faults are noted.
    fn from_json(members: &mut JsonFields) -> Result<Self, Rejected>;
}

/// A member is missing or wrong, and [`JsonFields`] has noted which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected;

/// Extracts a request from the body.
pub struct Body<T>(pub T);

impl<T: FromJson + 'static> FromRequest for Body<T> {
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
                // A body that drips must not hold its connection for ever.
                Some(limit) => timeout(limit, read(payload, end)).await.map_err(|_| Problem::RequestTimeout)??,
                None => read(payload, end).await?,
            };
            body_is_read(&request);
            parse(&bytes).map(Self)
        })
    }
}

/// Refuses what the headers say already, before a byte of the body is read.
fn check_headers(request: &HttpRequest) -> Result<(), Problem> {
    let text = |name: header::HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            // RFC 2046 knows `utf-8` alone; many clients write `utf8`, and mean nothing else.
            let value = value.trim().trim_matches('"');
            ["utf-8", "utf8"].iter().any(|name| value.eq_ignore_ascii_case(name))
        }
        _ => true,
    });
    let is_plain = text(header::CONTENT_ENCODING).is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
    if !(is_json && is_utf8 && is_plain) {
        return Err(Problem::UnsupportedMediaType);
    }
    if announced_length(request).is_some_and(|length| length > MAX_BODY) {
        return Err(Problem::PayloadTooLarge);
    }
    Ok(())
}

fn announced_length(request: &HttpRequest) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Where the body ends when the client would rather speak another protocol: for actix-http it ends with the connection then.
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
            return Err(Problem::PayloadTooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    if let Some(end) = end {
        bytes.truncate(end);
    }
    Ok(bytes)
}

fn parse<T: FromJson>(bytes: &[u8]) -> Result<T, Problem> {
    let members: Object = serde_json::from_slice(bytes).map_err(|error| {
        // The position helps; the parser's words could quote the body.
        let (line, column) = (error.line(), error.column());
        Problem::Malformed(format!("The body must be a JSON object; reading stopped at line {line}, column {column}."))
    })?;
    let mut members = JsonFields { left: members.0, known: Vec::new(), faults: Vec::new() };
    let request = T::from_json(&mut members);
    members.finish(request)
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
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Hands out the members of an object one by one, and notes what is wrong with them.
pub struct JsonFields {
    left: Vec<(String, Value)>,
    known: Vec<&'static str>,
    faults: Vec<MemberFault>,
}

impl JsonFields {
    /// A text that must be there, read by `parse`.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Result<T, Rejected> {
        self.optional(name, parse)?.ok_or_else(|| self.fault(name, "is missing"))
    }

    /// A text that may be absent, for which `null` is another word.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Result<Option<T>, Rejected> {
        let Some(value) = self.take(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let Value::String(text) = value else { return Err(self.fault(name, "must be a string")) };
        parse(&text).map(Some).map_err(|fault| self.fault(name, fault.0))
    }

    /// Notes that a member is not what it must be.
    pub fn fault(&mut self, name: &'static str, detail: &str) -> Rejected {
        self.faults.push(MemberFault::new(format!("/{name}"), detail));
        Rejected
    }

    /// Whether a member was sent that is not `null`, and not yet taken.
    pub fn has(&self, name: &str) -> bool {
        self.left.iter().any(|(left, value)| left == name && !value.is_null())
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        let first = self.left.iter().position(|(left, _)| left == name)?;
        let (_, value) = self.left.remove(first);
        let rest = self.left.len();
        self.left.retain(|(left, _)| left != name);
        if self.left.len() < rest {
            // RFC 8259 §4: which of them counts would depend on who reads.
            self.fault(name, "must be given only once");
        }
        Some(value)
    }

    fn finish<T>(mut self, request: Result<T, Rejected>) -> Result<T, Problem> {
        if !self.left.is_empty() {
            let known = self.known.join(", ");
            self.faults.push(MemberFault::new("", format!("has an unknown member; the known ones are {known}")));
        }
        match request {
            Ok(request) if self.faults.is_empty() => Ok(request),
            _ => Err(Problem::Members(self.faults)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq)]
    struct Pair(String, Option<String>);

    impl FromJson for Pair {
        fn from_json(members: &mut JsonFields) -> Result<Self, Rejected> {
            let one = members.required("one", |text| Ok(text.to_owned()));
            let two = members.optional("two", |text| Ok(text.to_owned()));
            Ok(Self(one?, two?))
        }
    }

    fn pointers(body: &str) -> Vec<String> {
        match parse::<Pair>(body.as_bytes()) {
            Err(Problem::Members(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        assert_eq!(pointers(r#"{"one":1,"two":[],"three":3}"#), ["/one", "/two", ""]);
        assert_eq!(pointers(r#"{"one":null,"two":null,"three":null}"#), ["/one", ""]);
        assert_eq!(pointers(r#"{"one":"a","two":null,"two":"b"}"#), ["/two"]);
        assert_eq!(pointers(r#"{"one":"a","one":"b"}"#), ["/one"]);
        assert_eq!(pointers(r#"{"two":"a","two":"b","two":"c"}"#), ["/one", "/two"]);
        assert_eq!(pointers("{}"), ["/one"]);
    }

    #[test]
    fn a_right_object_is_read() {
        let pair = parse::<Pair>(br#" {"two":"b","one":"a"} "#);
        assert_eq!(pair.ok(), Some(Pair("a".into(), Some("b".into()))));
        let pair = parse::<Pair>(br#"{"two":null,"one":"a"}"#);
        assert_eq!(pair.ok(), Some(Pair("a".into(), None)), "`null` is as good as absent");
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in any::<Vec<u8>>(), json in "[\\[\\]{}\",:0-9a-z\\\\ ]{0,40}") {
            let _ = parse::<Pair>(&body);
            let _ = parse::<Pair>(json.as_bytes());
        }
    }
}
