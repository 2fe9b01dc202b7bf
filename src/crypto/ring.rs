//! The keys of one kind of token, each with its state: next, active, retiring.
//!
//! A state is no mark that somebody must change in time on every replica: it follows from when a key begins to sign. Of
//! those that have begun the youngest signs; the one before it still verifies until its last token has ended.

use super::keys::{KeyFault, SigningKey};
use crate::domain::{Algorithm, Publication, Seconds, Timestamp};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::json;
use std::{collections::HashSet, fmt};

/// How long others may keep the key set, in seconds: a key is in it for at least so long before it signs.
pub const MAX_AGE: Seconds = Seconds(60);
/// How much a replica's clock may be behind.
const CLOCKS_DIFFER: Seconds = Seconds(60);
/// No key ends sooner after its successor has begun: what has ended elsewhere is not taken to be there still.
const _: () = assert!(Publication::STILL.0 <= MAX_AGE.0 + CLOCKS_DIFFER.0);
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

/// When a key begins to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    pub at: Timestamp,
    /// Whether it signs even where it has not been published yet: the key before it has leaked.
    pub at_once: bool,
}

impl Beginning {
    /// A key that has always signed.
    pub const LONG_AGO: Self = Self::planned(ALWAYS);

    pub const fn planned(at: Timestamp) -> Self {
        Self { at, at_once: false }
    }

    pub const fn at_once(at: Timestamp) -> Self {
        Self { at, at_once: true }
    }
}

/// A key in its ring.
#[derive(Clone)]
pub struct RingKey {
    pub(super) key: SigningKey,
    /// The encoded header of its tokens, which never changes.
    pub(super) header: String,
    /// `None` for a key of which nobody has said when; it is in the key set and verifies.
    begins: Option<Beginning>,
    /// Since when it is in the key set of this replica. [`ALWAYS`] is a guess about what should have begun before this
    /// replica did, until [`KeyRing::heard_of`] knows better.
    published_at: Timestamp,
    /// When the last token that it signed has ended; `None` while nothing follows it.
    ends: Option<Timestamp>,
    /// Whether it signs before its time because there was no other that could.
    stands_in: bool,
}

impl RingKey {
    /// When it signs here: when its time has come, and others could see it in the key set.
    fn due(&self) -> Option<Timestamp> {
        self.begins.map(|Beginning { at, at_once }| if at_once { at } else { at.max(self.published_at + MAX_AGE) })
    }

    fn has_begun(&self, now: Timestamp) -> bool {
        self.stands_in || self.due().is_some_and(|due| due <= now)
    }

    fn has_ended(&self, now: Timestamp) -> bool {
        self.ends.is_some_and(|end| end <= now)
    }

    pub fn kid(&self) -> &str {
        self.key.kid()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }
}

/// Keys of which one signs and several verify.
#[derive(Clone)]
pub struct KeyRing {
    /// The `typ` of their tokens, which keeps the kinds of token apart (RFC 8725 §3.11).
    pub(super) typ: &'static str,
    /// In the order in which they begin to sign; those of which nobody has said when come last.
    keys: Vec<RingKey>,
    /// The `kid` of each key that has ended here, whether its file is still there or not.
    ended: HashSet<String>,
}

impl KeyRing {
    /// A ring of keys, and when each begins to sign tokens of this `typ`. `lifetime` is how long a token may be taken
    /// after it was made. A replica that begins `now` does not know since when others know a key that began just before
    /// (`heard_of` tells it), nor whether another signed with an older one until now.
    ///
    /// # Errors
    /// When there is no key that ever signs, one is there twice, or two begin at one moment.
    pub fn new(
        typ: &'static str,
        keys: Vec<(SigningKey, Option<Beginning>)>,
        lifetime: Seconds,
        now: Timestamp,
    ) -> Result<Self, KeyFault> {
        let in_ring = |(key, begins): (SigningKey, Option<Beginning>)| {
            let header = json!({ "alg": key.algorithm().name(), "kid": key.kid(), "typ": typ });
            let is_old = begins.is_some_and(|begin| begin.at <= now - MAX_AGE);
            RingKey {
                header: URL_SAFE_NO_PAD.encode(header.to_string()),
                key,
                begins,
                // A clock that counts seconds says too early when something came.
                published_at: if is_old { ALWAYS } else { now + Seconds(1) },
                ends: None,
                stands_in: false,
            }
        };
        let mut keys: Vec<RingKey> = keys.into_iter().map(in_ring).collect();
        keys.sort_by_key(|key| key.begins.map_or(Timestamp(i64::MAX), |begin| begin.at));
        for (number, key) in keys.iter().enumerate() {
            let others = keys.get(number + 1..).unwrap_or_default();
            if others.iter().any(|other| other.kid() == key.kid()) {
                return Err(KeyFault(format!("the key {} is there twice (one key, one algorithm)", key.kid())));
            }
            let same_moment = |other: &RingKey| key.begins.zip(other.begins).is_some_and(|(one, two)| one.at == two.at);
            if others.iter().any(same_moment) {
                return Err(KeyFault("two keys would sign from the same moment on: one must be next".to_owned()));
            }
        }
        if keys.first().is_none_or(|key| key.begins.is_none()) {
            return Err(KeyFault("there is no key that signs".to_owned()));
        }
        let mut ring = Self { typ, keys, ended: HashSet::new() };
        ring.settle(lifetime, now);
        Ok(ring)
    }

    /// This ring when its replica has heard which keys others have in their key sets. One that was there for the whole of
    /// a key set's `max-age`, and is still, may sign. Any other is published from `now` on: what was there only shortly or
    /// long ago others may not know any more. Before a first key was told of, nothing is known.
    pub(super) fn heard_of(mut self, told: &[Publication], lifetime: Seconds, now: Timestamp) -> Self {
        if told.is_empty() {
            return self;
        }
        let is_known =
            |told: &Publication| told.seen_at >= now - Publication::STILL && told.since + MAX_AGE <= told.seen_at;
        for key in &mut self.keys {
            let told = told.iter().find(|told| told.is_of(key.kid(), key.algorithm()));
            key.published_at = if told.is_some_and(is_known) { ALWAYS } else { now + Seconds(1) };
            // It has not signed here yet: whatever was said of it was a guess.
            key.stands_in = false;
            key.ends = key.ends.filter(|_| self.ended.contains(key.key.kid()));
        }
        self.settle(lifetime, now);
        self
    }

    /// Its keys that are in the key set, for other replicas to know.
    pub(super) fn publications(&self, now: Timestamp) -> impl Iterator<Item = Publication> {
        self.alive(now).map(move |key| Publication {
            kid: key.kid().to_owned(),
            algorithm: key.algorithm(),
            since: key.published_at.max(Timestamp(0)),
            seen_at: now,
        })
    }

    pub(super) fn has(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid() == kid)
    }

    /// The same key for the same algorithm: an RSA key has one `kid` with several.
    fn find(&self, same: &SigningKey) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.kid() == same.kid() && key.algorithm() == same.algorithm())
    }

    /// Says when each key ends: when what it signed last has, after a younger one began and every replica has noticed.
    /// Who hears late of the younger one has signed with this one until now. What has ended stays so.
    fn settle(&mut self, lifetime: Seconds, now: Timestamp) {
        if !self.alive(now).any(|key| key.has_begun(now)) {
            // One that others know, though its time has not come. If there is none, nothing is gained by waiting until they
            // know the one that should sign: none can meanwhile.
            let could = |key: &RingKey| !key.has_ended(now) && key.begins.is_some();
            let is_known = |key: &RingKey| key.published_at + MAX_AGE <= now;
            let known = self.keys.iter().position(|key| could(key) && is_known(key));
            let due =
                || self.keys.iter().rposition(|key| could(key) && key.begins.is_some_and(|begin| begin.at <= now));
            let first = || self.keys.iter().position(could);
            if let Some(key) = known.or_else(due).or_else(first).and_then(|place| self.keys.get_mut(place)) {
                key.stands_in = true;
            }
        }
        let grace = Seconds(lifetime.0 + MAX_AGE.0 + CLOCKS_DIFFER.0);
        let mut successor: Option<Timestamp> = None;
        for key in self.keys.iter_mut().rev().filter(|key| !key.has_ended(now)) {
            key.ends = successor.map(|begins| match key.ends {
                Some(end) => end.max(begins + grace),
                None => begins.max(now) + grace,
            });
            successor = successor.into_iter().chain(key.due()).min();
        }
    }

    /// This ring in the place of another, at `now`. A key that the key set did not have before is published first, and
    /// one whose last token has ended never signs again: whoever verifies has forgotten it.
    ///
    /// # Errors
    /// When every key that ever signs has ended.
    pub fn replacing(mut self, before: &Self, now: Timestamp, lifetime: Seconds) -> Result<Self, KeyFault> {
        let ended = before.keys.iter().filter(|key| key.has_ended(now)).map(|key| key.kid().to_owned());
        self.ended = before.ended.iter().cloned().chain(ended).collect();
        for key in &mut self.keys {
            let known = before.find(&key.key);
            key.published_at = known.map_or(now + Seconds(1), |known| known.published_at);
            // Whoever signs already goes on: one that comes is published first, even if it should have signed sooner.
            key.stands_in = key.begins.is_some() && known.is_some_and(|known| known.stands_in);
            key.ends = if self.ended.contains(key.kid()) { Some(ALWAYS) } else { known.and_then(|known| known.ends) };
        }
        self.settle(lifetime, now);
        if self.alive(now).all(|key| key.begins.is_none()) {
            return Err(KeyFault(
                "every key that signs has ended; `signet keys rotate --now` makes another".to_owned(),
            ));
        }
        Ok(self)
    }

    /// The keys of another ring whose tokens are good there, and not here.
    pub(super) fn misses<'a>(&'a self, other: &'a Self, now: Timestamp) -> impl Iterator<Item = &'a RingKey> {
        other.alive(now).filter(move |key| self.find(&key.key).is_none_or(|mine| mine.has_ended(now)))
    }

    /// The key that signs: the youngest that has begun.
    pub(super) fn signer(&self, now: Timestamp) -> &RingKey {
        let begun = self.alive(now).filter(|key| key.has_begun(now)).last();
        #[expect(clippy::indexing_slicing, reason = "a ring has a key that signs; `new` and `replacing` see to it")]
        begun.or_else(|| self.alive(now).next()).unwrap_or(&self.keys[0])
    }

    /// Those whose tokens may still be good, and those that will sign.
    pub(super) fn alive(&self, now: Timestamp) -> impl Iterator<Item = &RingKey> {
        self.keys.iter().filter(move |key| !key.has_ended(now))
    }

    /// Each key and its state, in the order in which they begin to sign.
    pub fn states(&self, now: Timestamp) -> impl Iterator<Item = (&RingKey, KeyState)> {
        let active = self.signer(now);
        let mut of_others = KeyState::Retiring;
        self.keys.iter().map(move |key| {
            let state = if std::ptr::eq(key, active) {
                of_others = KeyState::Next;
                KeyState::Active
            } else if key.has_ended(now) {
                KeyState::Ended
            } else {
                of_others
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
    const NOW: Timestamp = Timestamp(5000);

    fn key() -> SigningKey {
        SigningKey::parse(&generate(Algorithm::Es256).unwrap(), Algorithm::Es256).unwrap()
    }

    fn from(at: i64) -> Beginning {
        Beginning::planned(Timestamp(at))
    }

    const LONG_AGO: Option<Beginning> = Some(Beginning::LONG_AGO);

    fn ring<const N: usize>(keys: [(&SigningKey, Option<Beginning>); N], now: Timestamp) -> KeyRing {
        let keys = keys.map(|(key, begins)| (key.clone(), begins)).into();
        KeyRing::new("at+jwt", keys, LIFETIME, now).unwrap()
    }

    fn states(ring: &KeyRing, now: i64) -> Vec<KeyState> {
        ring.states(Timestamp(now)).map(|(_, state)| state).collect()
    }

    #[test]
    fn states_follow_from_when_keys_begin_to_sign() {
        use KeyState::{Active, Ended, Next, Retiring};
        let ring = ring([(&key(), LONG_AGO), (&key(), Some(from(1000))), (&key(), None)], Timestamp(0));
        assert_eq!(states(&ring, 999), [Active, Next, Next]);
        assert_eq!(states(&ring, 1000), [Retiring, Active, Next]);
        assert_eq!(states(&ring, 1000 + 300 + 120 - 1), [Retiring, Active, Next]);
        assert_eq!(states(&ring, 1000 + 300 + 120), [Ended, Active, Next]);
        assert_eq!(ring.alive(Timestamp(1000 + 420)).count(), 2);
    }

    #[test]
    fn before_the_first_has_begun_the_first_signs() {
        let ring = ring([(&key(), Some(from(2000))), (&key(), Some(from(1000)))], Timestamp(0));
        assert_eq!(states(&ring, 5), [KeyState::Active, KeyState::Next]);
        assert_eq!(ring.signer(Timestamp(5)).begins, Some(from(1000)));
    }

    #[test]
    fn a_ring_that_cannot_be_is_refused() {
        let same = key();
        let fault = |keys: Vec<(SigningKey, Option<Beginning>)>| {
            KeyRing::new("at+jwt", keys, LIFETIME, NOW).err().map(|fault| fault.0)
        };
        assert!(fault(vec![]).unwrap().contains("no key that signs"));
        assert!(fault(vec![(key(), None)]).unwrap().contains("no key that signs"));
        assert!(fault(vec![(same.clone(), LONG_AGO), (same.clone(), None)]).unwrap().contains("twice"));
        assert!(fault(vec![(key(), LONG_AGO), (key(), LONG_AGO)]).unwrap().contains("same moment"));
        assert_eq!(fault(vec![(key(), None), (key(), None), (same, LONG_AGO)]), None);
    }

    /// Who signs at which moment after [`NOW`], in the ring that takes the place of another then.
    #[test]
    fn a_key_is_published_before_it_signs_in_whatever_order_it_comes() {
        let (old, new) = (key(), key());
        let alone = || ring([(&old, LONG_AGO)], NOW);
        let waiting = || ring([(&old, LONG_AGO), (&new, None)], NOW);
        let rotated = |at| ring([(&old, LONG_AGO), (&new, at)], NOW);
        let at_once = Some(Beginning::at_once(NOW));
        // What was there, since when; what takes its place; how long the old one still signs.
        let rows = [
            ("told late", alone(), rotated(Some(from(1000))), 61),
            ("told in time", alone(), rotated(Some(from(5200))), 200),
            ("told that it is next, and then that it signs", waiting(), rotated(Some(from(5000))), 61),
            ("next, and then planned", waiting(), rotated(Some(from(5030))), 61),
            ("at once, known", waiting(), rotated(at_once), 0),
            ("at once, unknown", alone(), rotated(at_once), 0),
            ("the old one is gone", alone(), ring([(&new, Some(from(1000)))], NOW), 0),
            ("the old one is gone, and the new one not due", alone(), ring([(&new, Some(from(6000)))], NOW), 0),
            ("the plan was taken back", rotated(Some(from(5100))), waiting(), i64::MAX),
        ];
        for (name, before, after, still) in rows {
            let ring = after.replacing(&before, NOW, LIFETIME).unwrap();
            let signs = |seconds| ring.signer(NOW + Seconds(seconds)).kid().to_owned();
            if still > 0 {
                assert_eq!(signs(still - 1), old.kid(), "{name}");
            }
            if still < i64::MAX {
                assert_eq!(signs(still), new.kid(), "{name}");
            }
        }
    }

    #[test]
    fn to_be_told_twice_changes_nothing() {
        let (old, new) = (key(), key());
        let late = || ring([(&old, LONG_AGO), (&new, Some(from(1000)))], NOW);
        let before = ring([(&old, LONG_AGO)], NOW);
        let once = late().replacing(&before, NOW, LIFETIME).unwrap();
        assert_eq!(once.alive(NOW + MAX_AGE + LIFETIME).count(), 2, "the old one ends so much later");
        let twice = late().replacing(&once, NOW + Seconds(30), LIFETIME).unwrap();
        assert_eq!(twice.signer(NOW + Seconds(60)).kid(), old.kid());
        assert_eq!(twice.signer(NOW + Seconds(61)).kid(), new.kid());
        let end = |ring: &KeyRing| ring.keys[0].ends;
        assert_eq!((end(&once), end(&twice)), (Some(NOW + Seconds(61 + 420)), end(&once)));
        let later = late().replacing(&twice, NOW + Seconds(400), LIFETIME).unwrap();
        assert_eq!(end(&later), end(&once), "nor does it when the old one is retiring");
    }

    /// Until a replica is told, it signs with the old key: those tokens are good for as long as any.
    #[test]
    fn who_is_told_late_refuses_nothing_that_it_signed() {
        let (old, new) = (key(), key());
        let waiting = || ring([(&old, LONG_AGO), (&new, None)], Timestamp(0));
        let late = |begins| ring([(&old, LONG_AGO), (&new, begins)], NOW);
        for begins in [Some(from(1000)), Some(Beginning::at_once(Timestamp(1000)))] {
            for after in [late(begins).replacing(&waiting(), NOW, LIFETIME).unwrap(), late(begins)] {
                assert_eq!(after.signer(NOW).kid(), new.kid());
                assert_eq!(after.keys[0].ends, Some(NOW + Seconds(420)), "told, or begun");
            }
        }
    }

    #[test]
    fn a_key_for_another_algorithm_is_another_key() {
        let text = generate(Algorithm::Rs256).unwrap();
        let [rs, ps] = [Algorithm::Rs256, Algorithm::Ps256].map(|name| SigningKey::parse(&text, name).unwrap());
        assert_eq!(rs.kid(), ps.kid());
        let (before, after) = (ring([(&rs, LONG_AGO)], NOW), ring([(&ps, LONG_AGO)], NOW));
        let after = after.replacing(&before, NOW, LIFETIME).unwrap();
        assert_eq!(after.misses(&before, NOW).count(), 1);
        assert_eq!(after.misses(&after, NOW).count(), 0);
    }

    /// A replica that begins does not know since when others know a key that began a moment ago.
    #[test]
    fn a_start_does_not_skip_the_publication() {
        let (old, new) = (key(), key());
        let fresh = ring([(&old, LONG_AGO), (&new, Some(from(NOW.0 - 10)))], NOW);
        assert_eq!(fresh.signer(NOW + Seconds(60)).kid(), old.kid());
        assert_eq!(fresh.signer(NOW + Seconds(61)).kid(), new.kid());
        let settled = ring([(&old, LONG_AGO), (&new, Some(from(NOW.0 - 60)))], NOW);
        assert_eq!(settled.signer(NOW).kid(), new.kid());
        let first = ring([(&new, Some(from(NOW.0 - 10))), (&old, None)], NOW);
        assert_eq!(first.signer(NOW).kid(), new.kid(), "there is no other");
    }

    /// What it has assumed gives way to what others tell; what they do not tell of is published from then on.
    #[test]
    fn who_starts_goes_by_what_others_have_published() {
        let (old, new) = (key(), key());
        // It took long to hear of it.
        let (start, later) = (|| ring([(&old, LONG_AGO), (&new, Some(from(1000)))], NOW), NOW + Seconds(600));
        // Since when it was published and when it was seen last, in seconds before the replica hears of it.
        let told = |of: &[(&SigningKey, i64, i64)]| -> Vec<Publication> {
            let publication = |(key, since, seen_at): &(&SigningKey, i64, i64)| Publication {
                kid: key.kid().to_owned(),
                algorithm: key.algorithm(),
                since: later - Seconds(*since),
                seen_at: later - Seconds(*seen_at),
            };
            of.iter().map(publication).collect()
        };
        // What others tell; how long the old one still signs.
        let rows = [
            ("the first start of all", told(&[]), 0),
            ("published for long", told(&[(&old, 9000, 30), (&new, 8000, 30)]), 0),
            ("for a minute", told(&[(&old, 9000, 30), (&new, 90, 30)]), 0),
            ("not yet for a minute", told(&[(&old, 9000, 30), (&new, 89, 30)]), 61),
            ("for a moment, a while ago", told(&[(&old, 9000, 30), (&new, 120, 119)]), 61),
            ("for long, long ago", told(&[(&old, 9000, 30), (&new, 8000, 2000)]), 61),
            ("by a clock that is ahead", told(&[(&old, 9000, 30), (&new, -3600, -3600)]), 61),
            ("nobody knows it", told(&[(&old, 9000, 30)]), 61),
            // Elsewhere the old one may have ended: a backup was restored, the database was away.
            ("nobody has either any more", told(&[(&old, 9000, 190), (&new, 8000, 190)]), 0),
            ("the old one has long been forgotten", told(&[(&old, 9000, 1000)]), 0),
            ("nobody knows either: one must sign", told(&[(&key(), 9000, 30)]), 0),
        ];
        for (name, told, still) in rows {
            let ring = start().heard_of(&told, LIFETIME, later);
            let signs = |seconds| ring.signer(later + Seconds(seconds)).kid().to_owned();
            if still > 0 {
                assert_eq!(signs(still - 1), old.kid(), "{name}");
                assert!(ring.alive(later + Seconds(still + 419)).any(|key| key.kid() == old.kid()), "{name}");
            }
            assert_eq!(signs(still), new.kid(), "{name}");
        }
        let alone = ring([(&new, Some(from(1000)))], NOW).heard_of(&told(&[(&old, 9000, 30)]), LIFETIME, later);
        assert_eq!(alone.signer(later).kid(), new.kid(), "there is no other");
        // One that signed before its time, because it was alone, and an older one that nobody knows.
        let early = ring([(&new, Some(from(1000))), (&old, Some(from(9000)))], NOW);
        let early = early.heard_of(&told(&[(&old, 9000, 30)]), LIFETIME, later);
        for seconds in [0, 61, 3600] {
            assert_eq!(early.signer(later + Seconds(seconds)).kid(), old.kid(), "it goes on");
        }
    }

    /// Before the first has begun another comes, or a file that was away is back: whoever signs is known to others.
    #[test]
    fn who_stands_in_goes_on_until_the_next_is_known() {
        let (first, other) = (key(), key());
        let alone = || ring([(&first, Some(from(5600)))], NOW);
        for begins in [Some(from(5300)), Some(from(4990)), LONG_AGO] {
            let ring = ring([(&first, Some(from(5600))), (&other, begins)], NOW + Seconds(70));
            let ring = ring.replacing(&alone(), NOW + Seconds(70), LIFETIME).unwrap();
            for seconds in [70, 130, 131, 300, 600, 10_000] {
                assert_eq!(ring.signer(NOW + Seconds(seconds)).kid(), first.kid(), "{begins:?} after {seconds} s");
            }
        }
    }

    #[test]
    fn a_key_that_has_ended_never_signs_again() {
        let (ended, leaked, new) = (key(), key(), key());
        let before = ring([(&ended, LONG_AGO), (&leaked, Some(from(1000)))], Timestamp(0));
        assert_eq!(states(&before, NOW.0), [KeyState::Ended, KeyState::Active]);
        // The leaked one was deleted, and nobody was careful about the rest.
        let without = |begins| ring([(&ended, LONG_AGO), (&new, begins)], NOW).replacing(&before, NOW, LIFETIME);
        for begins in [Some(from(NOW.0)), Some(from(NOW.0 + 500)), Some(Beginning::at_once(NOW))] {
            let ring = without(begins).unwrap();
            for seconds in [0, 59, 60, 1000] {
                assert_eq!(ring.signer(NOW + Seconds(seconds)).kid(), new.kid(), "{begins:?} after {seconds} s");
                assert!(!ring.alive(NOW + Seconds(seconds)).any(|key| key.kid() == ended.kid()), "{begins:?}");
            }
        }
        assert!(without(None).err().unwrap().0.contains("every key that signs has ended"));
        let alone = || ring([(&ended, LONG_AGO)], NOW);
        assert!(alone().replacing(&before, NOW, LIFETIME).err().unwrap().0.contains("keys rotate --now"));
        // Away and back again, and beside one that is called older.
        let away = ring([(&leaked, Some(from(1000)))], NOW).replacing(&before, NOW, LIFETIME).unwrap();
        assert!(alone().replacing(&away, NOW, LIFETIME).is_err());
        let older = ring([(&new, LONG_AGO), (&ended, Some(from(500)))], NOW);
        let older = older.replacing(&before, NOW, LIFETIME).unwrap();
        assert_eq!((older.signer(NOW).kid(), older.keys[0].ends), (new.kid(), None));
    }

    #[test]
    fn an_older_key_that_comes_late_does_not_take_over() {
        let (old, active) = (key(), key());
        let before = ring([(&active, Some(from(1000)))], NOW);
        let ring =
            ring([(&old, LONG_AGO), (&active, Some(from(1000)))], NOW).replacing(&before, NOW, LIFETIME).unwrap();
        for seconds in [0, 60, 1000] {
            assert_eq!(ring.signer(NOW + Seconds(seconds)).kid(), active.kid());
        }
    }
}
