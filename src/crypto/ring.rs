//! The keys of one kind of token, each with its state: next, active, retiring.
//!
//! A state is no mark that somebody must change in time on every replica: it follows from when a key begins to sign. Of
//! those that have begun the youngest signs; the one before it still verifies until its last token has ended.

use super::keys::{KeyFault, SigningKey};
use crate::domain::{Algorithm, Seconds, Timestamp};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::json;
use std::fmt;

/// How long others may keep the key set, in seconds: a key is in it for at least so long before it signs.
pub const MAX_AGE: Seconds = Seconds(60);
/// How much a replica's clock may be behind.
const CLOCKS_DIFFER: Seconds = Seconds(60);
/// A key that has always signed.
pub const ALWAYS: Timestamp = Timestamp(i64::MIN);

/// What a key is for at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// In the key set, and does not sign yet.
    Next,
    /// Signs.
    Active,
    /// Verifies what it signed.
    Retiring,
    /// Nothing that it signed is good any more.
    Ended,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Ended => "ended",
        })
    }
}

/// A key in its ring.
pub struct RingKey {
    pub(super) key: SigningKey,
    /// The encoded header of its tokens, which never changes.
    pub(super) header: String,
    /// `None` for a key of which nobody has said when; it is in the key set and verifies.
    signs_from: Option<Timestamp>,
    /// Since when it is in the key set of this replica; [`ALWAYS`] for what was there at the start.
    published_at: Timestamp,
    /// When the last token that it signed has ended; `None` while nothing follows it.
    ends: Option<Timestamp>,
}

impl RingKey {
    /// When it signs here: when it is due, and others had the time to see it in the key set.
    fn due(&self) -> Option<Timestamp> {
        self.signs_from.map(|from| from.max(self.published_at + MAX_AGE))
    }

    pub fn kid(&self) -> &str {
        self.key.kid()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }
}

/// Keys of which one signs and several verify.
pub struct KeyRing {
    /// The `typ` of their tokens, which keeps the kinds of token apart (RFC 8725 §3.11).
    pub(super) typ: &'static str,
    keys: Vec<RingKey>,
}

impl KeyRing {
    /// A ring of keys, and when each begins to sign tokens of this `typ`. `lifetime` is how long a token may be taken
    /// after it was made.
    ///
    /// # Errors
    /// When there is no key that ever signs, one is there twice, or two begin at one moment.
    pub fn new(
        typ: &'static str,
        keys: Vec<(SigningKey, Option<Timestamp>)>,
        lifetime: Seconds,
    ) -> Result<Self, KeyFault> {
        let in_ring = |(key, signs_from): (SigningKey, _)| {
            let header = json!({ "alg": key.algorithm().name(), "kid": key.kid(), "typ": typ });
            RingKey {
                header: URL_SAFE_NO_PAD.encode(header.to_string()),
                key,
                signs_from,
                published_at: ALWAYS,
                ends: None,
            }
        };
        let mut keys: Vec<RingKey> = keys.into_iter().map(in_ring).collect();
        keys.sort_by_key(|key| key.signs_from.unwrap_or(Timestamp(i64::MAX)));
        for (number, key) in keys.iter().enumerate() {
            let others = keys.get(number + 1..).unwrap_or_default();
            if others.iter().any(|other| other.kid() == key.kid()) {
                return Err(KeyFault(format!("the key {} is there twice (one key, one algorithm)", key.kid())));
            }
            if key.signs_from.is_some() && others.iter().any(|other| other.signs_from == key.signs_from) {
                return Err(KeyFault("two keys would sign from the same moment on: one must be next".to_owned()));
            }
        }
        if keys.first().is_none_or(|key| key.signs_from.is_none()) {
            return Err(KeyFault("there is no key that signs".to_owned()));
        }
        let mut ring = Self { typ, keys };
        ring.put_in_order(lifetime);
        Ok(ring)
    }

    pub(super) fn has(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid() == kid)
    }

    /// Orders keys as they sign; those of which nobody knows when come last. A key ends when what it signed last has:
    /// after its successor began, and every replica has noticed.
    fn put_in_order(&mut self, lifetime: Seconds) {
        self.keys.sort_by_key(|key| key.due().unwrap_or(Timestamp(i64::MAX)));
        let grace = Seconds(lifetime.0 + MAX_AGE.0 + CLOCKS_DIFFER.0);
        let successors: Vec<_> = self.keys.iter().skip(1).map(RingKey::due).chain([None]).collect();
        for (key, successor) in self.keys.iter_mut().zip(successors) {
            key.ends = successor.map(|successor| successor + grace);
        }
    }

    /// This ring in place of another, at `now`: a key that was not in the key set before is published first, unless there
    /// is no other that could sign meanwhile.
    #[must_use]
    pub fn replacing(mut self, before: &Self, now: Timestamp, lifetime: Seconds) -> Self {
        for key in &mut self.keys {
            key.published_at = match before.keys.iter().find(|known| known.kid() == key.kid()) {
                None => now,
                Some(known) if known.signs_from == key.signs_from => known.published_at,
                // It was here, and the operator has said anew when it signs.
                Some(_) => ALWAYS,
            };
        }
        if !self.keys.iter().any(|key| key.due().is_some_and(|due| due <= now)) {
            self.keys.iter_mut().for_each(|key| key.published_at = ALWAYS);
        }
        self.put_in_order(lifetime);
        self
    }

    /// The key that signs: the youngest that has begun; before the first has, the first.
    pub(super) fn signer(&self, now: Timestamp) -> &RingKey {
        let begun = |key: &&RingKey| key.due().is_some_and(|due| due <= now);
        #[expect(clippy::indexing_slicing, reason = "a ring has a key that signs; `new` sees to it")]
        self.keys.iter().rev().find(begun).unwrap_or(&self.keys[0])
    }

    /// Those whose tokens may still be good, and those that will sign.
    pub(super) fn alive(&self, now: Timestamp) -> impl Iterator<Item = &RingKey> {
        self.keys.iter().filter(move |key| key.ends.is_none_or(|end| now < end))
    }

    /// Each key and its state, in the order in which they sign.
    pub fn states(&self, now: Timestamp) -> impl Iterator<Item = (&RingKey, KeyState)> {
        let active = self.signer(now);
        self.keys.iter().map(move |key| {
            let state = if std::ptr::eq(key, active) {
                KeyState::Active
            } else if key.due().is_none_or(|due| due > now) {
                KeyState::Next
            } else if key.ends.is_none_or(|end| now < end) {
                KeyState::Retiring
            } else {
                KeyState::Ended
            };
            (key, state)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::generate;

    const LIFETIME: Seconds = Seconds(300);

    fn key() -> SigningKey {
        SigningKey::parse(&generate(Algorithm::Es256).unwrap(), Algorithm::Es256).unwrap()
    }

    fn states(ring: &KeyRing, now: i64) -> Vec<KeyState> {
        ring.states(Timestamp(now)).map(|(_, state)| state).collect()
    }

    #[test]
    fn states_follow_from_when_keys_begin_to_sign() {
        use KeyState::{Active, Ended, Next, Retiring};
        let begins = [Some(ALWAYS), Some(Timestamp(1000)), None];
        let ring = KeyRing::new("at+jwt", begins.map(|begin| (key(), begin)).into(), LIFETIME).unwrap();
        assert_eq!(states(&ring, 999), [Active, Next, Next]);
        assert_eq!(states(&ring, 1000), [Retiring, Active, Next]);
        assert_eq!(states(&ring, 1000 + 300 + 120 - 1), [Retiring, Active, Next]);
        assert_eq!(states(&ring, 1000 + 300 + 120), [Ended, Active, Next]);
        assert_eq!(ring.alive(Timestamp(1000 + 420)).count(), 2);
    }

    #[test]
    fn before_the_first_has_begun_the_first_signs() {
        let begins = [Some(Timestamp(2000)), Some(Timestamp(1000))];
        let ring = KeyRing::new("at+jwt", begins.map(|begin| (key(), begin)).into(), LIFETIME).unwrap();
        assert_eq!(states(&ring, 5), [KeyState::Active, KeyState::Next]);
        assert_eq!(ring.signer(Timestamp(5)).signs_from, Some(Timestamp(1000)));
    }

    #[test]
    fn a_ring_that_cannot_be_is_refused() {
        let same = key();
        let ring = |keys: Vec<(SigningKey, Option<Timestamp>)>| {
            KeyRing::new("at+jwt", keys, LIFETIME).err().map(|fault| fault.0)
        };
        assert!(ring(vec![]).unwrap().contains("no key that signs"));
        assert!(ring(vec![(key(), None)]).unwrap().contains("no key that signs"));
        assert!(ring(vec![(same.clone(), Some(ALWAYS)), (same.clone(), None)]).unwrap().contains("twice"));
        assert!(ring(vec![(key(), Some(ALWAYS)), (key(), Some(ALWAYS))]).unwrap().contains("same moment"));
        assert_eq!(ring(vec![(key(), None), (key(), None), (same, Some(ALWAYS))]), None);
    }

    #[test]
    fn a_key_that_comes_late_is_published_before_it_signs() {
        let (old, new) = (key(), key());
        let before = KeyRing::new("at+jwt", vec![(old.clone(), Some(ALWAYS))], LIFETIME).unwrap();
        let late = vec![(old.clone(), Some(ALWAYS)), (new.clone(), Some(Timestamp(1000)))];
        let now = Timestamp(5000);
        let ring = KeyRing::new("at+jwt", late.clone(), LIFETIME).unwrap().replacing(&before, now, LIFETIME);
        assert_eq!(ring.signer(now).kid(), old.kid());
        assert_eq!(ring.signer(now + Seconds(59)).kid(), old.kid());
        assert_eq!(ring.signer(now + MAX_AGE).kid(), new.kid());
        assert_eq!(ring.alive(now + MAX_AGE).count(), 2, "and the old one ends so much later");
        let again = KeyRing::new("at+jwt", late, LIFETIME).unwrap().replacing(&ring, now + Seconds(30), LIFETIME);
        assert_eq!(again.signer(now + Seconds(59)).kid(), old.kid(), "to be told twice changes nothing");
        assert_eq!(again.signer(now + MAX_AGE).kid(), new.kid());
        // A key that leaked was taken away: the other signs at once, because none else can.
        let alone = KeyRing::new("at+jwt", vec![(new.clone(), Some(Timestamp(1000)))], LIFETIME).unwrap();
        assert_eq!(alone.replacing(&before, now, LIFETIME).signer(now).kid(), new.kid());
    }
}
