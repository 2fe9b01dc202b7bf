//! Clients: programs that authenticate with a secret of their own (RFC 6749 §2).

use super::{Invalid, Timestamp};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// The id of a client: `client_` and 128 random bits as 32 hexadecimal digits, so it is never the `sub` of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(pub Uuid);

impl ClientId {
    const PREFIX: &str = "client_";

    pub fn from_random(bits: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bits))
    }

    /// Parses an id, which has one spelling only.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(Self::PREFIX)?;
        let has_one_spelling =
            digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if has_one_spelling { Uuid::try_parse(digits).ok().map(Self) } else { None }
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0.simple())
    }
}

/// A set of scopes in the order in which they were given, written with a space between them (RFC 6749 §3.3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scopes(Vec<String>);

impl Scopes {
    /// The maximum length of the text, in bytes: a token has at most 8 KiB.
    const MAX_LENGTH: usize = 1000;

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub fn contains_all(&self, others: &Self) -> bool {
        others.0.iter().all(|scope| self.0.contains(scope))
    }
}

impl FromStr for Scopes {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const FAULT: Invalid = Invalid(
            "must be words of printable ASCII without \" and \\, separated by single spaces, of at most 1000 bytes in all",
        );
        let is_scope_token = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
        };
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > Self::MAX_LENGTH || !text.split(' ').all(is_scope_token) {
            return Err(FAULT);
        }
        let mut scopes = Vec::new();
        for word in text.split(' ').map(str::to_owned) {
            if !scopes.contains(&word) {
                scopes.push(word);
            }
        }
        Ok(Self(scopes))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub id: ClientId,
    pub name: String,
    /// The scopes that it may ask for.
    pub scopes: Scopes,
    /// The audiences that it may ask for; the first is the default. If empty, it may ask for `jwt.audience` only.
    pub audiences: Vec<String>,
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = ClientId::from_random([0xab; 16]);
        assert_eq!(id.to_string(), format!("client_{}", "ab".repeat(16)));
        for text in ["", "client_", &"ab".repeat(16), &format!("client_{}", "AB".repeat(16)), &format!("{id} "), "1"] {
            assert_eq!(ClientId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn scopes_are_a_set_of_words() {
        let parse = |text: &str| text.parse::<Scopes>().map(|scopes| scopes.to_string());
        assert_eq!(parse("").as_deref(), Ok(""));
        assert_eq!(parse("orders:read b orders:read").as_deref(), Ok("orders:read b"));
        for text in [" ", " a", "a ", "a  b", "a\tb", "a\"", "a\\", "ä", "a\0", &"a".repeat(1001)] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let (all, some): (Scopes, Scopes) = ("a b c".parse().unwrap(), "c a".parse().unwrap());
        assert!(all.contains_all(&some) && !some.contains_all(&all) && all.contains_all(&Scopes::default()));
    }

    proptest! {
        #[test]
        fn an_id_survives_the_round_trip(bits in any::<[u8; 16]>()) {
            let id = ClientId::from_random(bits);
            prop_assert_eq!(ClientId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = (ClientId::parse(&text), text.parse::<Scopes>());
        }
    }
}
