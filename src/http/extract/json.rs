//! Reads the JSON object in a request body.

use super::{
    body::read_body,
    members::{self, Members},
};
use crate::http::problem::Problem;
use actix_web::{FromRequest, HttpRequest, dev::Payload};
use futures_util::future::LocalBoxFuture;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use std::fmt;

/// Extracts a request from the body.
pub struct Body<T>(pub T);

impl<T: Members + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = read_body(request, payload, "application/json");
        Box::pin(async move { parse(&bytes.await?).map(Self) })
    }
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
