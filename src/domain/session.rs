//! A session: one row for each sign-in, which refreshes update.

use super::{Seconds, Timestamp};
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

    /// Parses the one form in which a `sid` is written.
    pub fn parse(text: &str) -> Option<Self> {
        let has_one_spelling = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if has_one_spelling { Uuid::try_parse(text).ok().map(Self) } else { None }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// A session that a sign-in stores.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub id: SessionId,
    /// When its refresh token expires.
    pub expires_at: Timestamp,
    /// When the session ends even if it is refreshed. Never changes.
    pub absolute_expires_at: Timestamp,
    pub user_agent: Option<String>,
    pub ip: Option<String>,
    /// The network of the client; see `limits::network`.
    pub network: Option<String>,
}

/// A session in the list of its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
    pub user_agent: Option<String>,
    pub ip: Option<String>,
}

/// The part of a session that refreshes read and change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionState {
    /// The number of rotations.
    pub generation: i64,
    /// The time of the last rotation, or of the sign-in.
    pub rotated_at: Timestamp,
    pub last_used_at: Timestamp,
    /// When the refresh token of this generation expires.
    pub expires_at: Timestamp,
    /// When the session ends even if it is refreshed.
    pub absolute_expires_at: Timestamp,
}

impl SessionState {
    /// How far `last_used_at` may lag behind without rotation, so that most refreshes write nothing.
    pub const USE_IS_EXACT_TO: Seconds = Seconds(60);
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
