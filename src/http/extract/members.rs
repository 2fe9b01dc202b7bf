//! Reads the members of a request into the one type that declares them: no member unknown or repeated, every fault in one
//! reply. The same rules hold for a JSON object and for a query.

use crate::{
    domain::{ApiKeyLifetime, DisplayName, Email, Invalid, Limit, Name, Password},
    http::problem::{MemberFault, Problem},
};
use actix_web::HttpRequest;
use deserr::{
    DeserializeError, Deserr, ErrorKind, IntoValue, MergeWithError, ValueKind, ValuePointerRef, take_cf_content,
};
use serde_json::{Map, Value, map::Entry};
use std::ops::ControlFlow;

/// A type that declares the members of a request, for the parser and for the OpenAPI document.
pub trait Members: Deserr<MemberFaults> {
    /// Checks the rules that concern more than one member, even if other members are at fault.
    fn check_together(_: &Map<String, Value>) -> Option<MemberFault> {
        None
    }
}

/// The fault of a request that does not have exactly one of two members.
pub fn exactly_one(members: &Map<String, Value>, [first, second]: [&str; 2]) -> Option<MemberFault> {
    let is_given = |name| members.get(name).is_some_and(|value| !value.is_null());
    match (is_given(first), is_given(second)) {
        (true, true) => {
            Some(MemberFault::new(format!("/{second}"), format!("must not be given together with {first}")))
        }
        (false, false) => {
            Some(MemberFault::new(format!("/{first}"), format!("is missing; {first} or {second} is needed")))
        }
        _ => None,
    }
}

/// Reads `T` from name-value pairs.
///
/// # Errors
/// [`Problem::Members`] with every fault, in the order of the pairs; missing and unknown members come last.
pub fn read<T: Members>(pairs: Vec<(String, Value)>) -> Result<T, Problem> {
    let order: Vec<String> = pairs.iter().map(|(name, _)| format!("/{name}")).collect();
    let mut members = Map::new();
    let mut repeated = Vec::new();
    for (name, value) in pairs {
        match members.entry(name) {
            Entry::Vacant(entry) => _ = entry.insert(value),
            Entry::Occupied(entry) => repeated.push(entry.key().clone()),
        }
    }
    let mut found = MemberFaults::default();
    found.faults.extend(T::check_together(&members));
    let read = deserr::deserialize::<T, _, MemberFaults>(Value::Object(members));
    let read = read.map_err(|faults| found.extend(faults));
    // RFC 8259 §4: which of two equal names counts depends on the implementation.
    repeated.retain(|name| !found.unknown.contains(name));
    found.faults.extend(repeated.iter().map(|name| MemberFault::new(format!("/{name}"), "must be given only once")));
    match read {
        Ok(request) if found.faults.is_empty() => Ok(request),
        _ => Err(Problem::Members(found.in_order(&order))),
    }
}

/// Reads `T` from the query of a request.
///
/// # Errors
/// As [`read`].
pub fn read_query<T: Members>(request: &HttpRequest) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(request.query_string().as_bytes());
    read(pairs.map(|(name, value)| (name.into_owned(), value.into())).collect())
}

/// A member that is a JSON object of the client's own.
pub struct Claims(pub Map<String, Value>);

impl Deserr<MemberFaults> for Claims {
    fn deserialize_from_value<V: IntoValue>(
        value: deserr::Value<V>,
        location: ValuePointerRef,
    ) -> Result<Self, MemberFaults> {
        match Value::from(value) {
            Value::Object(claims) => Ok(Self(claims)),
            _ => Err(take_cf_content(MemberFaults::merge(None, Invalid("must be an object"), location))),
        }
    }
}

/// The faults that were found so far.
#[derive(Debug, Default)]
pub struct MemberFaults {
    faults: Vec<MemberFault>,
    /// The unknown members. No reply contains their names, because the client chose them.
    unknown: Vec<String>,
}

impl MemberFaults {
    fn extend(&mut self, other: Self) {
        self.faults.extend(other.faults);
        self.unknown.extend(other.unknown);
    }

    fn in_order(mut self, order: &[String]) -> Vec<MemberFault> {
        let place = |fault: &MemberFault| order.iter().position(|pointer| *pointer == fault.pointer);
        self.faults.sort_by_key(|fault| (fault.pointer.is_empty(), place(fault).unwrap_or(usize::MAX)));
        self.faults.dedup();
        self.faults
    }
}

impl DeserializeError for MemberFaults {
    fn error<V: IntoValue>(
        found: Option<Self>,
        error: ErrorKind<V>,
        location: ValuePointerRef,
    ) -> ControlFlow<Self, Self> {
        let mut found = found.unwrap_or_default();
        let at = pointer(location);
        found.faults.push(match error {
            ErrorKind::MissingField { field } => MemberFault::new(format!("{at}/{field}"), "is missing"),
            ErrorKind::IncorrectValueKind { actual: deserr::Value::Null, .. } => MemberFault::new(at, "is missing"),
            ErrorKind::IncorrectValueKind { accepted, .. } => {
                let mut accepted: Vec<&str> = accepted.iter().map(|kind| words(*kind)).collect();
                accepted.dedup();
                MemberFault::new(at, format!("must be {}", accepted.join(" or ")))
            }
            ErrorKind::UnknownKey { key, accepted } => {
                found.unknown.push(key.to_owned());
                MemberFault::new(at, format!("has an unknown member; the known ones are {}", accepted.join(", ")))
            }
            ErrorKind::UnknownValue { accepted, .. } => {
                MemberFault::new(at, format!("must be one of {}", accepted.join(", ")))
            }
            ErrorKind::BadSequenceLen { expected, .. } => MemberFault::new(at, format!("must have {expected} items")),
            ErrorKind::Unexpected { msg } => MemberFault::new(at, msg),
        });
        ControlFlow::Continue(found)
    }
}

impl MergeWithError<Self> for MemberFaults {
    fn merge(found: Option<Self>, other: Self, _: ValuePointerRef) -> ControlFlow<Self, Self> {
        let mut found = found.unwrap_or_default();
        found.extend(other);
        ControlFlow::Continue(found)
    }
}

impl MergeWithError<Invalid> for MemberFaults {
    fn merge(found: Option<Self>, Invalid(detail): Invalid, location: ValuePointerRef) -> ControlFlow<Self, Self> {
        let mut found = found.unwrap_or_default();
        found.faults.push(MemberFault::new(pointer(location), detail));
        ControlFlow::Continue(found)
    }
}

/// The name of a kind of value, for error messages.
fn words(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Null => "null",
        ValueKind::Boolean => "a boolean",
        ValueKind::Integer | ValueKind::NegativeInteger => "a whole number",
        ValueKind::Float => "a number",
        ValueKind::String => "a string",
        ValueKind::Sequence => "an array",
        ValueKind::Map => "an object",
    }
}

/// The JSON pointer (RFC 6901) to a known member: its name needs no escapes.
fn pointer(location: ValuePointerRef) -> String {
    match location {
        ValuePointerRef::Origin => String::new(),
        ValuePointerRef::Key { key, prev } => format!("{}/{key}", pointer(*prev)),
        ValuePointerRef::Index { index, prev } => format!("{}/{index}", pointer(*prev)),
    }
}

/// A member that the domain parses from a text or a number; an `Option` of it may be absent or null.
macro_rules! parsed {
    ($($type:ident($given:ty): $parse:expr;)*) => {$(
        impl Deserr<MemberFaults> for $type {
            fn deserialize_from_value<V: IntoValue>(
                value: deserr::Value<V>,
                location: ValuePointerRef,
            ) -> Result<Self, MemberFaults> {
                let given = <$given>::deserialize_from_value(value, location)?;
                $parse(given).map_err(|fault| take_cf_content(MemberFaults::merge(None, fault, location)))
            }
        }
    )*};
}
parsed! {
    ApiKeyLifetime(i64): Self::parse;
    DisplayName(String): |text: String| Self::parse(&text);
    Email(String): |text: String| Self::parse(&text);
    Name(String): |text: String| Self::parse(&text);
    Password(String): |text: String| Self::parse(&text);
    Limit(String): |text: String| Self::parse(&text);
}
