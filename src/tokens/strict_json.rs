//! Strict JSON for tokens: a repeated member is an error (RFC 7519 §4 also lets a parser use the last one).

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use smallvec::SmallVec;
use std::{borrow::Cow, fmt, ops::Deref};

/// A string that is borrowed from the JSON, unless it is written with escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

/// Reads an optional member: `null` is an error, not an absent member.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads an object without repeated members. Compares each name with all names before it, so it is only for JSON whose
/// signature has been verified.
pub fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    serde_json::from_slice::<Distinct>(json).ok()?;
    known_members(json)
}

/// Reads an object. Fails at the first repeated member of `T` and, where `T` denies them, at the first unknown member.
pub fn known_members<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    // serde alone accepts an array for a struct, and bytes that are not UTF-8 in strings that it skips.
    let json = std::str::from_utf8(json).ok().filter(|json| json.starts_with('{'))?;
    serde_json::from_str(json).ok()
}

/// An object without repeated members.
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        // Room for the members of Signet's tokens and some that settings and users add.
        let mut names = SmallVec::<[Text<'de>; 24]>::new();
        while let Some((name, IgnoredAny)) = map.next_entry::<Text, _>()? {
            if names.iter().any(|known| known.0 == name.0) {
                return Err(A::Error::custom("a repeated member"));
            }
            names.push(name);
        }
        Ok(self)
    }
}
