//! A session: one row for each sign-in, however often it is refreshed.

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

    /// Reads the one form in which a `sid` is written.
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

/// A session as its user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
    pub user_agent: Option<String>,
    pub ip: Option<String>,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionState {
    /// How often it was rotated.
    pub generation: i64,
    /// When it was rotated last; when it began, if never.
    pub rotated_at: Timestamp,
    pub last_used_at: Timestamp,
    /// When the refresh token of this generation ends.
    pub expires_at: Timestamp,
    /// When the session ends, however often it is refreshed.
    pub absolute_expires_at: Timestamp,
}

/// What a refresh token is to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The newest there is.
    Current,
    /// The one before, moments after: a lost reply, a second tab, a retry.
    Retry,
    /// Older, moments after: a slow second tab, which has a newer token by now.
    Superseded,
    /// Used before, and not moments ago: a copy.
    Reused,
    /// Newer than the newest: not of this database.
    NeverIssued,
}

/// How soon after a rotation a token that is older still is no sign of theft.
const SUPERSEDED_GRACE: Seconds = Seconds(10);

impl SessionState {
    /// `last_used_at` is exact to this without rotation, so that most refreshes write nothing.
    pub const USE_IS_EXACT_TO: Seconds = Seconds(60);

    /// Judges a token of `generation` (DESIGN, "Sessions and refresh"). With a grace of 0 s no token is good twice.
    pub fn standing_of(&self, generation: i64, grace: Seconds, now: Timestamp) -> Standing {
        let behind = self.generation.saturating_sub(generation);
        // Replicas' clocks differ a little: a rotation that is yet to come was just now.
        let age = (now - self.rotated_at).max(Seconds(0));
        match behind {
            0 => Standing::Current,
            ..0 => Standing::NeverIssued,
            1 if age < grace => Standing::Retry,
            2.. if age < grace.min(SUPERSEDED_GRACE) => Standing::Superseded,
            _ => Standing::Reused,
        }
    }
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

    #[test]
    fn a_token_is_judged_by_its_distance_and_by_time() {
        use Standing::{Current, NeverIssued, Retry, Reused, Superseded};
        let at = Timestamp(1000);
        let state =
            SessionState { generation: 5, rotated_at: at, last_used_at: at, expires_at: at, absolute_expires_at: at };
        let rows = [
            // generation, grace, age, standing
            (5, 30, 0, Current),
            (5, 30, 1_000_000, Current),
            (5, 0, 0, Current),
            (4, 30, 0, Retry),
            (4, 30, 29, Retry),
            (4, 30, 30, Reused),
            (4, 30, 31, Reused),
            (4, 30, -5, Retry),
            (4, 0, 0, Reused),
            (4, 86_400, 86_399, Retry),
            (4, 86_400, 86_400, Reused),
            (3, 30, 0, Superseded),
            (3, 30, 9, Superseded),
            (3, 30, 10, Reused),
            (3, 30, 29, Reused),
            (3, 5, 4, Superseded),
            (3, 5, 5, Reused),
            (3, 0, 0, Reused),
            (0, 30, 0, Superseded),
            (0, 30, 10, Reused),
            (-1, 30, 10, Reused),
            (6, 30, 0, NeverIssued),
            (i64::MAX, 30, 0, NeverIssued),
            (i64::MIN, 30, 100, Reused),
        ];
        for (generation, grace, age, standing) in rows {
            let judged = state.standing_of(generation, Seconds(grace), at + Seconds(age));
            assert_eq!(judged, standing, "generation {generation}, grace {grace} s, age {age} s");
        }
        println!("{} cases", rows.len());
    }
}
