//! A session: one row for each sign-in, however often it is refreshed.

use super::{Timestamp, UserId};
use std::fmt;
use uuid::Uuid;

/// The `sid` of a session: 128 random bits, written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub Uuid);

impl SessionId {
    /// All 128 bits are random: a version-4 UUID would leave 122 (ASVS 5.0, 11.5.1).
    pub fn from_random(bits: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bits))
    }

    /// Reads the one form in which a `sid` is written.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(Uuid::try_parse(text).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// A session about to be stored by a sign-in.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub id: SessionId,
    /// When the refresh token that goes with it ends.
    pub expires_at: Timestamp,
    /// When the session ends however often it is refreshed; anchored here and never moved.
    pub absolute_expires_at: Timestamp,
    pub user_agent: Option<String>,
    pub ip: Option<String>,
}

/// What a refresh token says. Whether it is still good is decided with the session's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshToken {
    pub user: UserId,
    pub session: SessionId,
    /// How often the session had been rotated when this token was made.
    pub generation: i64,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sid_has_one_spelling() {
        let sid = SessionId::from_random([0xab; 16]);
        assert_eq!(sid.to_string(), "ab".repeat(16));
        for text in
            ["", &"AB".repeat(16), "abababab-abab-abab-abab-abababababab", &format!("{{{sid}}}"), &"ab".repeat(15)]
        {
            assert_eq!(SessionId::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_sid_survives_the_round_trip(bits in any::<[u8; 16]>()) {
            let sid = SessionId::from_random(bits);
            prop_assert_eq!(SessionId::parse(&sid.to_string()), Some(sid));
        }
    }
}
