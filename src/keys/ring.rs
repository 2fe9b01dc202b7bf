//! The keys of access tokens and the state of each: next, active, retiring, ended.
//!
//! The newest key whose activation time has passed signs. Keys that activate later are already published; keys that
//! were active before verify until the last token that they signed has expired.

use super::{KeyFault, SigningKey, TokenKey};
use crate::domain::{MAX_CLOCK_SKEW, Seconds, Timestamp};
use std::collections::HashSet;

/// How long clients may cache the key set.
pub const MAX_AGE: Seconds = Seconds(60);
/// How long a key file may take to reach every replica and be read there.
const FILE_ARRIVAL: Seconds = Seconds(240);
/// How long a key is published before it signs: it reaches every replica, and then every cached key set expires.
pub const PUBLISHED_BEFORE: Seconds = Seconds(FILE_ARRIVAL.0 + MAX_AGE.0);
/// How long after its successor's activation a replica may still sign with a key: the successor's file has not arrived
/// yet (`rotate --now`), or the replica's clock is behind.
const SIGNS_LATE: Seconds = Seconds(FILE_ARRIVAL.0 + MAX_CLOCK_SKEW.0);

/// What a key is used for at a given time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum KeyState {
    /// Published, but does not sign yet.
    Next,
    /// Signs and verifies.
    Active,
    /// Verifies the tokens that it signed.
    Retiring,
    /// Every token that it signed has expired; neither signs nor verifies.
    Ended,
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

#[derive(Clone, PartialEq)]
struct RingKey {
    key: TokenKey,
    activation: Activation,
}

/// The keys of access tokens, of which one signs and several verify.
#[derive(Clone, PartialEq)]
pub struct KeyRing {
    /// In the order of activation; keys that wait are last.
    keys: Vec<RingKey>,
}

impl KeyRing {
    /// A ring of keys for tokens of this `typ`, with the activation of each.
    ///
    /// # Errors
    /// There is no key, a key occurs twice, or two keys are activated at the same time.
    pub fn new(typ: &'static str, keys: Vec<(SigningKey, Activation)>) -> Result<Self, KeyFault> {
        if keys.is_empty() {
            return Err("there is no key; `signet keys generate` creates the first".into());
        }
        let (mut kids, mut times) = (HashSet::new(), HashSet::new());
        for (key, activation) in &keys {
            if !kids.insert(key.kid()) {
                return Err(KeyFault(format!("the key {} occurs twice; a key can have only one algorithm", key.kid())));
            }
            if activation.activates_at().is_some_and(|at| !times.insert(at.0)) {
                return Err("two keys are activated at the same time; one must be `next`".into());
            }
        }
        let keys = keys.into_iter().map(|(key, activation)| RingKey { key: TokenKey::new(key, typ), activation });
        let mut keys: Vec<RingKey> = keys.collect();
        keys.sort_by_key(|key| key.activation.activates_at().unwrap_or(Timestamp(i64::MAX)));
        Ok(Self { keys })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &TokenKey> {
        self.keys.iter().map(|key| &key.key)
    }

    /// The index of the key that signs.
    fn active(&self, now: Timestamp) -> Option<usize> {
        self.keys.iter().rposition(|key| key.activation.has_passed(now))
    }

    pub(crate) fn check_active(&self, now: Timestamp) -> Result<(), KeyFault> {
        self.active(now).map(drop).ok_or("no key is active: `signet keys rotate --now` activates one".into())
    }

    /// The active key. If none is active because the clock was set back, the oldest key.
    pub(crate) fn signer(&self, now: Timestamp) -> &TokenKey {
        &self.keys[self.active(now).unwrap_or(0)].key
    }

    /// Each key and its state, in the order of activation. Tokens are accepted up to `max_token_age` after they were issued.
    pub(crate) fn states(
        &self,
        now: Timestamp,
        max_token_age: Seconds,
    ) -> impl Iterator<Item = (&TokenKey, KeyState)> + Clone {
        let active = self.active(now);
        self.keys.iter().enumerate().map(move |(place, key)| {
            let state = match active {
                Some(active) if place == active => KeyState::Active,
                Some(active) if place < active && self.has_ended(place, now, max_token_age) => KeyState::Ended,
                Some(active) if place < active => KeyState::Retiring,
                _ => KeyState::Next,
            };
            (&key.key, state)
        })
    }

    /// Whether every token that a key signed has expired, whichever replica signed it.
    fn has_ended(&self, place: usize, now: Timestamp, max_token_age: Seconds) -> bool {
        let successor = self.keys.get(place + 1).and_then(|key| key.activation.activates_at());
        successor.is_some_and(|activates_at| activates_at + max_token_age + SIGNS_LATE <= now)
    }

    /// The keys that are published and verify: all but those that have ended.
    pub(crate) fn verifying(&self, now: Timestamp, max_token_age: Seconds) -> impl Iterator<Item = &TokenKey> + Clone {
        self.states(now, max_token_age).filter(|(_, state)| *state != KeyState::Ended).map(|(key, _)| key)
    }

    /// The keys that `before` does not have and that should have been published before now. A key that `rotate --now`
    /// activated is not among them.
    pub(crate) fn late_since<'a>(&'a self, before: &'a Self, now: Timestamp) -> impl Iterator<Item = &'a TokenKey> {
        let is_late = move |key: &&RingKey| {
            let was_published_late = matches!(key.activation, Activation::At(at) if at <= now);
            was_published_late && key.activation != Activation::ALWAYS && before.keys.iter().all(|k| k.key != key.key)
        };
        self.keys.iter().filter(is_late).map(|key| &key.key)
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
        KeyRing::new("at+jwt", activations.iter().map(|activation| (key(), *activation)).collect()).unwrap()
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
            // The first key, made on a machine whose clock is ahead, signs at once.
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
            // `rotate --now` while another key is pending: that key is activated at its time.
            (&[ALWAYS, now(1000), at(1200)], 1100, &[Retiring, Active, Next]),
            (&[ALWAYS, now(1000), at(1200)], 1200, &[Retiring, Retiring, Active]),
        ];
        for (activations, time, states) in rows {
            let ring = ring(activations);
            let found: Vec<KeyState> = ring.states(Timestamp(*time), LIFETIME).map(|(_, state)| state).collect();
            assert_eq!(found, *states, "{activations:?} at {time}");
            let verifying = states.iter().filter(|state| **state != Ended).count();
            assert_eq!(ring.verifying(Timestamp(*time), LIFETIME).count(), verifying, "{activations:?} at {time}");
            assert_eq!(
                ring.check_active(Timestamp(*time)).is_ok(),
                states.contains(&Active),
                "{activations:?} at {time}"
            );
        }
    }

    #[test]
    fn the_order_of_the_files_does_not_matter() {
        let (old, new, next) = (key(), key(), key());
        let keys = [(next, Activation::Waiting), (new.clone(), at(1000)), (old, Activation::ALWAYS)];
        let ring = KeyRing::new("at+jwt", keys.to_vec()).unwrap();
        assert_eq!(ring.signer(Timestamp(1000)).signing.kid(), new.kid());
    }

    #[test]
    fn a_ring_that_is_ambiguous_or_empty_is_refused() {
        let same = key();
        let fault = |keys: &[(&SigningKey, Activation)]| {
            let keys = keys.iter().map(|(key, activation)| ((*key).clone(), *activation)).collect();
            KeyRing::new("at+jwt", keys).err().map(|fault| fault.0).unwrap_or_default()
        };
        assert!(fault(&[]).contains("there is no key"));
        assert!(fault(&[(&same, Activation::ALWAYS), (&same, Activation::Waiting)]).contains("twice"));
        assert!(fault(&[(&key(), Activation::ALWAYS), (&key(), Activation::ALWAYS)]).contains("same time"));
        assert!(fault(&[(&key(), at(7)), (&key(), now(7))]).contains("same time"));
        assert_eq!(fault(&[(&key(), Activation::Waiting), (&key(), Activation::Waiting), (&same, at(7))]), "");
    }

    #[test]
    fn a_reload_reports_the_keys_that_arrived_late() {
        let (old, new, time) = (key(), key(), Timestamp(1100));
        let ring = |keys: &[(&SigningKey, Activation)]| {
            let keys = keys.iter().map(|(key, activation)| ((*key).clone(), *activation)).collect();
            KeyRing::new("at+jwt", keys).unwrap()
        };
        let before = ring(&[(&old, at(500))]);
        let rows = [
            ("unchanged", ring(&[(&old, at(500))]), 0),
            ("the next key", ring(&[(&old, at(500)), (&new, Activation::Waiting)]), 0),
            ("planned", ring(&[(&old, at(500)), (&new, at(1200))]), 0),
            ("planned, and the file came late", ring(&[(&old, at(500)), (&new, at(1000))]), 1),
            ("rotate --now", ring(&[(&old, at(500)), (&new, now(1000))]), 0),
            ("without a time", ring(&[(&new, Activation::ALWAYS)]), 0),
        ];
        for (name, after, late) in rows {
            assert_eq!(after.late_since(&before, time).count(), late, "{name}");
            assert_eq!(after == before, name == "unchanged", "{name}");
        }
    }

    #[test]
    fn a_key_is_published_for_five_minutes_before_it_signs() {
        assert_eq!(PUBLISHED_BEFORE, Seconds(300));
    }
}
