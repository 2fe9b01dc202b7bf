//! The keys of access tokens, each with its state: next, active, retiring, ended.
//!
//! A state is computed from the activation times in the file names and is never stored, so replicas that read the same
//! files agree without telling each other. The newest key whose activation time has passed signs. Keys that activate
//! later are already published; keys that were active before verify until the last token that they signed has ended.

use super::{KeyFault, SigningKey, TokenKey};
use crate::domain::{MAX_CLOCK_SKEW, Seconds, Timestamp};
use serde::Serialize;
use std::fmt;

/// How long clients may cache the key set, in seconds.
pub const MAX_AGE: Seconds = Seconds(60);
/// How long a key file may take to reach every replica and be read there.
const FILE_ARRIVAL: Seconds = Seconds(240);
/// How long a key is published before it signs: it reaches every replica, and then every cached key set expires.
pub const PUBLISHED_BEFORE: Seconds = Seconds(FILE_ARRIVAL.0 + MAX_AGE.0);
/// How much longer than its successor's activation a replica may go on signing with a key: the successor's file has not
/// arrived yet (`rotate --now`), or the replica's clock is behind.
const SIGNS_LATE: Seconds = Seconds(FILE_ARRIVAL.0 + MAX_CLOCK_SKEW.0);

/// What a key is used for at a given time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, and does not sign yet.
    Next,
    /// Signs and verifies.
    Active,
    /// Verifies the tokens that it signed.
    Retiring,
    /// Every token that it signed has ended; neither signs nor verifies.
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

/// When a key is activated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// No time is set; `signet keys rotate` sets one.
    Waiting,
    /// At this time.
    At(Timestamp),
    /// As soon as a replica reads the file. The time orders the key among the others.
    Now(Timestamp),
}

impl Activation {
    /// The activation of a key whose file name has no time: it is older than every key that has one.
    pub const ALWAYS: Self = Self::At(Timestamp(i64::MIN));

    pub fn activates_at(self) -> Option<Timestamp> {
        match self {
            Self::Waiting => None,
            Self::At(at) | Self::Now(at) => Some(at),
        }
    }

    pub fn has_passed(self, now: Timestamp) -> bool {
        match self {
            Self::Waiting => false,
            Self::At(at) => at <= now,
            Self::Now(_) => true,
        }
    }
}

/// A key of the ring.
#[derive(Clone)]
pub struct RingKey {
    pub(crate) key: TokenKey,
    activation: Activation,
}

impl RingKey {
    pub fn signing_key(&self) -> &SigningKey {
        &self.key.signing
    }

    /// An RSA key has the same `kid` for several algorithms.
    fn is_same_as(&self, other: &Self) -> bool {
        let (one, two) = (self.signing_key(), other.signing_key());
        one.kid() == two.kid() && one.algorithm() == two.algorithm()
    }
}

/// The keys of access tokens, of which one signs and several verify.
#[derive(Clone)]
pub struct KeyRing {
    /// In the order of activation; keys that wait are last.
    keys: Vec<RingKey>,
    /// How long after it was issued an access token may be accepted.
    token_lifetime: Seconds,
}

impl KeyRing {
    /// A ring of keys for tokens of this `typ`, with the activation of each. `token_lifetime` is how long after it was
    /// issued a token may be accepted.
    ///
    /// # Errors
    /// There is no key, one is there twice, or two activate at the same time.
    pub fn new(
        typ: &'static str,
        keys: Vec<(SigningKey, Activation)>,
        token_lifetime: Seconds,
    ) -> Result<Self, KeyFault> {
        if keys.is_empty() {
            return Err("there is no key; `signet keys generate` makes the first".into());
        }
        let mut keys: Vec<RingKey> =
            keys.into_iter().map(|(key, activation)| RingKey { key: TokenKey::new(key, typ), activation }).collect();
        keys.sort_by_key(|key| key.activation.activates_at().map_or(i64::MAX, |at| at.0));
        for (number, key) in keys.iter().enumerate() {
            let others = keys.get(number + 1..).unwrap_or_default();
            let kid = key.signing_key().kid();
            if others.iter().any(|other| other.signing_key().kid() == kid) {
                return Err(KeyFault(format!("the key {kid} is there twice (one key, one algorithm)")));
            }
            let activates_at = key.activation.activates_at();
            if activates_at.is_some() && others.iter().any(|other| other.activation.activates_at() == activates_at) {
                return Err("two keys activate at the same time; one must be next".into());
            }
        }
        Ok(Self { keys, token_lifetime })
    }

    pub(crate) fn has(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.signing_key().kid() == kid)
    }

    /// The key that signs: the newest whose activation time has passed.
    pub fn active(&self, now: Timestamp) -> Option<&RingKey> {
        self.active_place(now).and_then(|place| self.keys.get(place))
    }

    /// # Errors
    /// No key is active.
    pub fn check_active(&self, now: Timestamp) -> Result<(), KeyFault> {
        let fault = || "no key is active: `signet keys rotate --now` activates one".into();
        self.active_place(now).map(drop).ok_or_else(fault)
    }

    fn active_place(&self, now: Timestamp) -> Option<usize> {
        self.keys.iter().rposition(|key| key.activation.has_passed(now))
    }

    /// The active key, for a ring that has had one. After a clock was set back the oldest key signs.
    pub(crate) fn signer(&self, now: Timestamp) -> &RingKey {
        #[expect(clippy::indexing_slicing, reason = "`new` refuses a ring without a key")]
        self.active(now).unwrap_or(&self.keys[0])
    }

    /// Each key and its state, in the order of activation.
    pub fn states(&self, now: Timestamp) -> impl Iterator<Item = (&RingKey, KeyState)> + Clone {
        let active = self.active_place(now);
        self.keys.iter().enumerate().map(move |(place, key)| {
            let state = match active {
                Some(active) if place == active => KeyState::Active,
                Some(active) if place < active => {
                    if self.end(place).is_some_and(|end| end <= now) {
                        KeyState::Ended
                    } else {
                        KeyState::Retiring
                    }
                }
                _ => KeyState::Next,
            };
            (key, state)
        })
    }

    /// When the last token that a key signed has ended on every replica.
    fn end(&self, place: usize) -> Option<Timestamp> {
        let successor = self.keys.get(place + 1)?.activation.activates_at()?;
        Some(successor + self.token_lifetime + SIGNS_LATE)
    }

    /// The keys that are published and verify: all but those that have ended.
    pub(crate) fn verifying(&self, now: Timestamp) -> impl Iterator<Item = &TokenKey> + Clone {
        self.states(now).filter(|(_, state)| *state != KeyState::Ended).map(|(key, _)| &key.key)
    }

    /// Whether both rings have the same keys with the same activation times.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        let is_same = |(one, two): (&RingKey, &RingKey)| one.is_same_as(two) && one.activation == two.activation;
        self.keys.len() == other.keys.len() && self.keys.iter().zip(&other.keys).all(is_same)
    }

    /// The keys that verify in the ring before this one and do not verify here.
    pub(crate) fn removed_since<'a>(
        &'a self,
        before: &'a Self,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a SigningKey> {
        let verifies_here =
            move |key: &RingKey| self.states(now).any(|(mine, state)| state != KeyState::Ended && mine.is_same_as(key));
        let verified = before.states(now).filter(|(_, state)| *state != KeyState::Ended);
        verified.filter(move |(key, _)| !verifies_here(key)).map(|(key, _)| key.signing_key())
    }

    /// The keys that the ring before this one did not have and that were to be published before now. A key that
    /// `rotate --now` activated is none of them.
    pub(crate) fn late_since<'a>(&'a self, before: &'a Self, now: Timestamp) -> impl Iterator<Item = &'a SigningKey> {
        let is_late =
            move |key: &RingKey| matches!(key.activation, Activation::At(_)) && key.activation.has_passed(now);
        let is_new = move |key: &RingKey| !before.keys.iter().any(|known| known.is_same_as(key));
        let keys = self.keys.iter().filter(move |key| key.activation != Activation::ALWAYS && is_late(key));
        keys.filter(move |key| is_new(key)).map(RingKey::signing_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Algorithm, keys::generate};

    const LIFETIME: Seconds = Seconds(300);

    fn key() -> SigningKey {
        SigningKey::parse(&generate(Algorithm::Es256).unwrap(), Algorithm::Es256).unwrap()
    }

    fn at(seconds: i64) -> Activation {
        Activation::At(Timestamp(seconds))
    }

    fn now(seconds: i64) -> Activation {
        Activation::Now(Timestamp(seconds))
    }

    fn ring(activations: &[Activation]) -> KeyRing {
        KeyRing::new("at+jwt", activations.iter().map(|activation| (key(), *activation)).collect(), LIFETIME).unwrap()
    }

    #[test]
    fn a_state_follows_from_the_activation_times_alone() {
        use Activation::Waiting;
        const ALWAYS: Activation = Activation::ALWAYS;
        use KeyState::{Active, Ended, Next, Retiring};
        // How long after the successor's activation a key verifies: lifetime, arrival of the file, clock skew.
        let end = 1000 + 300 + 240 + 60;
        // The keys in the order of activation; the time; their states then.
        let rows: &[(&[Activation], i64, &[KeyState])] = &[
            (&[ALWAYS], i64::MIN, &[Active]),
            (&[ALWAYS], 0, &[Active]),
            (&[Waiting], 5000, &[Next]),
            (&[at(1000)], 999, &[Next]),
            (&[at(1000)], 1000, &[Active]),
            (&[now(1000)], 1000, &[Active]),
            // Made on a machine whose clock is ahead: it is the first key, and signs at once.
            (&[now(1000)], 998, &[Active]),
            (&[ALWAYS, Waiting], 5000, &[Active, Next]),
            (&[ALWAYS, at(1000)], 999, &[Active, Next]),
            (&[ALWAYS, at(1000)], 1000, &[Retiring, Active]),
            (&[ALWAYS, at(1000), Waiting], end - 1, &[Retiring, Active, Next]),
            (&[ALWAYS, at(1000), Waiting], end, &[Ended, Active, Next]),
            (&[ALWAYS, now(1000)], 999, &[Retiring, Active]),
            (&[ALWAYS, now(1000)], end - 1, &[Retiring, Active]),
            (&[ALWAYS, now(1000)], end, &[Ended, Active]),
            (&[at(500), at(1000), at(5000)], 1100, &[Retiring, Active, Next]),
            (&[at(500), at(1000), at(5000)], end, &[Ended, Active, Next]),
            (&[at(500), at(1000), at(5000)], 5000, &[Ended, Retiring, Active]),
            // Two rotations in a row: the first key verifies as long as its own successor says.
            (&[at(500), at(1000), at(1100)], 1100, &[Retiring, Retiring, Active]),
            (&[at(500), at(1000), at(1100)], end, &[Ended, Retiring, Active]),
            (&[at(500), at(1000), at(1100)], end + 100, &[Ended, Ended, Active]),
            // `rotate --now` while another key was planned: that one becomes active at its time.
            (&[ALWAYS, now(1000), at(1200)], 1100, &[Retiring, Active, Next]),
            (&[ALWAYS, now(1000), at(1200)], 1200, &[Retiring, Retiring, Active]),
        ];
        for (activations, time, states) in rows {
            let ring = ring(activations);
            let found: Vec<KeyState> = ring.states(Timestamp(*time)).map(|(_, state)| state).collect();
            assert_eq!(found, *states, "{activations:?} at {time}");
            let verifying = states.iter().filter(|state| **state != Ended).count();
            assert_eq!(ring.verifying(Timestamp(*time)).count(), verifying, "{activations:?} at {time}");
            assert_eq!(ring.active(Timestamp(*time)).is_some(), states.contains(&Active), "{activations:?} at {time}");
        }
    }

    #[test]
    fn the_order_of_the_files_does_not_matter() {
        let (old, new, next) = (key(), key(), key());
        let keys = [(next, Activation::Waiting), (new.clone(), at(1000)), (old, Activation::ALWAYS)];
        let ring = KeyRing::new("at+jwt", keys.to_vec(), LIFETIME).unwrap();
        assert_eq!(ring.signer(Timestamp(1000)).signing_key().kid(), new.kid());
    }

    #[test]
    fn a_ring_that_is_ambiguous_or_empty_is_refused() {
        let same = key();
        let fault = |keys: &[(&SigningKey, Activation)]| {
            let keys = keys.iter().map(|(key, activation)| ((*key).clone(), *activation)).collect();
            KeyRing::new("at+jwt", keys, LIFETIME).err().map(|fault| fault.0).unwrap_or_default()
        };
        assert!(fault(&[]).contains("there is no key"));
        assert!(fault(&[(&same, Activation::ALWAYS), (&same, Activation::Waiting)]).contains("twice"));
        assert!(fault(&[(&key(), Activation::ALWAYS), (&key(), Activation::ALWAYS)]).contains("same time"));
        assert!(fault(&[(&key(), at(7)), (&key(), now(7))]).contains("same time"));
        assert_eq!(fault(&[(&key(), Activation::Waiting), (&key(), Activation::Waiting), (&same, at(7))]), "");
    }

    #[test]
    fn a_change_names_the_keys_that_are_gone_and_those_that_came_late() {
        let (old, new, time) = (key(), key(), Timestamp(1100));
        let ring = |keys: &[(&SigningKey, Activation)]| {
            let keys = keys.iter().map(|(key, activation)| ((*key).clone(), *activation)).collect();
            KeyRing::new("at+jwt", keys, LIFETIME).unwrap()
        };
        let before = ring(&[(&old, at(500))]);
        let rows = [
            ("unchanged", ring(&[(&old, at(500))]), 0, 0),
            ("the next key", ring(&[(&old, at(500)), (&new, Activation::Waiting)]), 0, 0),
            ("planned", ring(&[(&old, at(500)), (&new, at(1200))]), 0, 0),
            ("planned, and the file came late", ring(&[(&old, at(500)), (&new, at(1000))]), 0, 1),
            ("rotate --now", ring(&[(&old, at(500)), (&new, now(1000))]), 0, 0),
            ("rotate --now after a leak", ring(&[(&new, now(1000))]), 1, 0),
            ("without a time", ring(&[(&new, Activation::ALWAYS)]), 1, 0),
        ];
        for (name, after, gone, late) in rows {
            assert_eq!(after.removed_since(&before, time).count(), gone, "{name}");
            assert_eq!(after.late_since(&before, time).count(), late, "{name}");
            assert_eq!(after.is_same_as(&before), name == "unchanged", "{name}");
        }
        let ended = ring(&[(&old, at(500)), (&new, at(1000))]);
        let deleted = ring(&[(&new, at(1000))]);
        assert_eq!(deleted.removed_since(&ended, Timestamp(9000)).count(), 0, "no token of it is accepted any more");
    }

    #[test]
    fn a_key_for_another_algorithm_is_another_key() {
        let text = generate(Algorithm::Rs256).unwrap();
        let ring = |algorithm| {
            let key = SigningKey::parse(&text, algorithm).unwrap();
            KeyRing::new("at+jwt", vec![(key, Activation::ALWAYS)], LIFETIME).unwrap()
        };
        let (before, after) = (ring(Algorithm::Rs256), ring(Algorithm::Ps256));
        assert_eq!(before.signer(Timestamp(0)).signing_key().kid(), after.signer(Timestamp(0)).signing_key().kid());
        assert_eq!(after.removed_since(&before, Timestamp(0)).count(), 1);
        assert!(!after.is_same_as(&before));
    }

    #[test]
    fn a_key_is_published_for_five_minutes_before_it_signs() {
        assert_eq!(PUBLISHED_BEFORE, Seconds(300));
    }
}
