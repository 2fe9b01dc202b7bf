//! Argon2id (RFC 9106): hashing, verifying, and paying the same for an account that does not exist.

use super::{
    argon2id::{Argon2id, Kernel, TAG},
    hash_threads::{HashError, HashThreads, Place, Scratch, Threads},
};
use crate::{
    domain::{Password, PasswordHash},
    telemetry::HashWaits,
};
use argon2::{
    Algorithm, Params, Version,
    password_hash::phc::{self, Output, ParamsString, Salt},
};
use std::{io, time::Duration};
use tracing::Instrument;

/// What came of verifying a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    /// Right; with a new hash where the stored one was made with other parameters than today's.
    Right {
        rehashed: Option<PasswordHash>,
    },
}

/// What hashing may cost: Argon2id's parameters for a new hash, and who may wait for a thread. Memory in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Hashing {
    pub memory_kib: u32,
    pub iterations: u32,
    pub parallelism: u32,
    /// A stored hash that needs more is not verified.
    pub max_memory_kib: u32,
    pub threads: usize,
    pub queue: usize,
    pub queue_timeout: Duration,
    /// The code that hashes; `None` for the quickest.
    pub kernel: Option<Kernel>,
    /// For how long a thread rests after each hash, as a share of what the hash took.
    pub rest: f64,
}

/// Hashes and verifies, on threads of its own.
pub struct Passwords {
    threads: HashThreads,
    cost: Cost,
}

/// What a hash costs now, and what a stored one may cost at most.
#[derive(Debug, Clone)]
struct Cost {
    params: Params,
    max_memory_kib: u32,
    argon2id: Argon2id,
}

impl Passwords {
    /// # Errors
    /// When the system gives no threads, or the settings are not what Argon2 takes.
    pub fn start(hashing: Hashing, waits: HashWaits) -> io::Result<Self> {
        let Hashing { memory_kib, iterations, parallelism, max_memory_kib, threads, queue, queue_timeout, .. } =
            hashing;
        let params = Params::new(memory_kib, iterations, parallelism, Some(TAG));
        let params = params.map_err(|error| io::Error::other(error.to_string()))?;
        let usual_blocks = params.block_count();
        let argon2id = Argon2id::choose(hashing.kernel);
        tracing::info!(kernel = argon2id.kernel().name(), threads, rest = hashing.rest, "hashing passwords");
        let threads = Threads { count: threads, usual_blocks, rest: hashing.rest };
        let threads = HashThreads::start(&threads, queue, queue_timeout, waits)?;
        Ok(Self { threads, cost: Cost { params, max_memory_kib, argon2id } })
    }

    /// How many wait for a hash thread.
    pub fn waiting(&self) -> usize {
        self.threads.waiting()
    }

    /// A place for one [`Passwords::verify`]: taken first, so that nothing is done for who is refused.
    ///
    /// # Errors
    /// When there is none, at once.
    pub fn place(&self) -> Result<Place, HashError> {
        self.threads.place()
    }

    /// The hash to store for a new password.
    ///
    /// # Errors
    /// When too many are waiting.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, HashError> {
        let cost = self.cost.clone();
        let hashing = self.threads.run(self.place()?, move |scratch| cost.hash(&password, scratch));
        hashing.instrument(tracing::debug_span!("hash")).await
    }

    /// Compares a password with a stored hash. Where there is none, the same work is done for nothing:
    /// the time tells nobody whether an account exists.
    ///
    /// # Errors
    /// When too many are waiting.
    pub async fn verify(
        &self,
        place: Place,
        password: Password,
        stored: Option<PasswordHash>,
    ) -> Result<Verdict, HashError> {
        let cost = self.cost.clone();
        let hashing = self.threads.run(place, move |scratch| cost.verify(&password, stored.as_ref(), scratch));
        hashing.instrument(tracing::debug_span!("hash")).await
    }
}

impl Cost {
    fn hash(&self, password: &Password, scratch: &mut Scratch) -> PasswordHash {
        let salt = super::random::<{ Salt::RECOMMENDED_LENGTH }>();
        let output = self.tag(&self.params, password, &salt, scratch);
        // Salt, output and parameters of these sizes always fit into a PHC string.
        #[expect(clippy::expect_used, reason = "constant sizes; a test makes one")]
        let hash = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&self.params).expect("the parameters fit"),
            salt: Some(Salt::new(&salt).expect("16 bytes are a salt")),
            hash: Some(Output::new(&output).expect("32 bytes are an output")),
        };
        PasswordHash::new(hash.to_string())
    }

    fn verify(&self, password: &Password, stored: Option<&PasswordHash>, scratch: &mut Scratch) -> Verdict {
        let Some(stored) = stored.and_then(|stored| self.read(stored)) else {
            self.tag(&self.params, password, &[0; 16], scratch);
            return Verdict::Wrong;
        };
        let is_todays = stored.params.m_cost() == self.params.m_cost()
            && stored.params.t_cost() == self.params.t_cost()
            && stored.params.p_cost() == self.params.p_cost();
        if !is_todays {
            // Perhaps two hashes, and the stored one as expensive as whoever made it chose.
            scratch.give_answers();
        }
        let output = self.tag(&stored.params, password, stored.salt.as_ref(), scratch);
        // `Output` compares in constant time.
        if Output::new(&output).ok() != Some(stored.output) {
            // An older, cheaper hash must not answer sooner than an account that does not exist, nor later.
            for params in self.missing_work(work(&stored.params)) {
                self.tag(&params, password, &[0; 16], scratch);
            }
            return Verdict::Wrong;
        }
        Verdict::Right { rehashed: (!is_todays).then(|| self.hash(password, scratch)) }
    }

    /// The hashes that make up for one that cost `spent`, up to what one costs now.
    fn missing_work(&self, spent: u64) -> Vec<Params> {
        let missing = work(&self.params).saturating_sub(spent);
        let memory = u64::from(self.params.m_cost());
        let hashes = [(memory, missing / memory), (missing % memory, 1)];
        let params = hashes.into_iter().filter_map(|(memory, passes)| {
            let (memory, passes) = (u32::try_from(memory).ok()?, u32::try_from(passes).ok()?);
            // Too little for a hash is too little to be measured.
            Params::new(memory, passes, self.params.p_cost(), Some(TAG)).ok()
        });
        params.collect()
    }

    fn tag(&self, params: &Params, password: &Password, salt: &[u8], scratch: &mut Scratch) -> [u8; TAG] {
        // `Params`, `Salt` and the body limit bound every size.
        scratch.work += work(params);
        let Scratch { memory, give_way, .. } = scratch;
        let memory = memory.blocks(params.block_count());
        self.argon2id.hash(params, password.expose(), salt, memory, || give_way.block_done())
    }

    /// A stored hash that can be verified here: Argon2id, version 19, 32 bytes, no more memory than allowed, and no more
    /// work than [`MAX_WORK`] of today's hashes: one row could otherwise hold a hash thread for days.
    fn read(&self, stored: &PasswordHash) -> Option<Stored> {
        let read = || {
            let hash = phc::PasswordHash::new(stored.as_str()).ok()?;
            let params = Params::try_from(&hash).ok()?;
            let (salt, output) = (hash.salt?, hash.hash?);
            let is_ours = hash.algorithm == Algorithm::Argon2id.ident()
                && hash.version == Some(Version::V0x13.into())
                && output.len() == TAG
                && params.m_cost() <= self.max_memory_kib
                && work(&params) <= MAX_WORK * work(&self.params);
            is_ours.then_some(Stored { params, salt, output })
        };
        let read = read();
        if read.is_none() {
            tracing::error!(
                "a stored password hash cannot be verified: it is not Argon2id, or needs more than passwords.max_memory_kib \
                 or than 16 times the work of a new one"
            );
        }
        read
    }
}

/// How many of today's hashes a stored one may cost.
const MAX_WORK: u64 = 16;

/// What a hash costs: the KiB that it fills, over all its passes.
fn work(params: &Params) -> u64 {
    u64::from(params.m_cost()) * u64::from(params.t_cost())
}

struct Stored {
    params: Params,
    salt: Salt,
    output: Output,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn cost(memory_kib: u32, iterations: u32) -> Cost {
        let params = Params::new(memory_kib, iterations, 1, Some(TAG)).unwrap();
        Cost { params, max_memory_kib: 1024, argon2id: Argon2id::REFERENCE }
    }

    #[test]
    fn a_right_password_is_right_and_any_other_is_wrong() {
        let (cost, mut scratch) = (cost(64, 1), Scratch::default());
        let hash = cost.hash(&Password::attempt("correct horse"), &mut scratch);
        let mut verify = |text: &str| cost.verify(&Password::attempt(text), Some(&hash), &mut scratch);
        assert_eq!(verify("correct horse"), Verdict::Right { rehashed: None });
        for wrong in ["", "correct horsE", "correct horse ", "correct hors"] {
            assert_eq!(verify(wrong), Verdict::Wrong, "{wrong:?}");
        }
    }

    #[test]
    fn a_password_is_one_in_every_unicode_form() {
        let (cost, mut scratch) = (cost(64, 1), Scratch::default());
        let hash = cost.hash(&Password::attempt("caf\u{e9} au lait"), &mut scratch);
        let verdict = cost.verify(&Password::attempt("cafe\u{301} au lait"), Some(&hash), &mut scratch);
        assert_eq!(verdict, Verdict::Right { rehashed: None });
    }

    #[test]
    fn a_hash_with_other_parameters_is_verified_and_made_anew() {
        let (old, new, mut scratch) = (cost(32, 2), cost(64, 1), Scratch::default());
        let password = Password::attempt("correct horse");
        let hash = old.hash(&password, &mut scratch);
        let Verdict::Right { rehashed: Some(rehashed) } = new.verify(&password, Some(&hash), &mut scratch) else {
            panic!("no new hash");
        };
        assert!(rehashed.as_str().contains("m=64,t=1,p=1"));
        assert_eq!(new.verify(&password, Some(&rehashed), &mut scratch), Verdict::Right { rehashed: None });
    }

    #[test]
    fn no_answer_waits_for_a_hash_with_other_parameters() {
        let (old, new, mut scratch) = (cost(32, 2), cost(64, 1), Scratch::default());
        let password = Password::attempt("correct horse");
        for (hash, is_given) in [(new.hash(&password, &mut scratch), false), (old.hash(&password, &mut scratch), true)]
        {
            let (given, was_given) = mpsc::channel();
            scratch.keep(move || {
                let _ = given.send(());
            });
            new.verify(&password, Some(&hash), &mut scratch);
            assert_eq!(was_given.try_recv().is_ok(), is_given, "{}", hash.as_str());
        }
    }

    /// Counted, not timed: whoever asks must not learn from the work which address has an account.
    #[test]
    fn a_wrong_password_costs_the_same_whatever_the_stored_hash_cost() {
        let (now, mut scratch) = (cost(64, 3), Scratch::default());
        let mut spent = |stored: Option<&PasswordHash>| {
            scratch.work = 0;
            assert_eq!(now.verify(&Password::attempt("wrong"), stored, &mut scratch), Verdict::Wrong);
            scratch.work
        };
        let unknown = spent(None);
        for (memory_kib, iterations) in [(64, 3), (64, 1), (8, 1), (24, 2), (100, 1), (8, 24)] {
            let hash = cost(memory_kib, iterations).hash(&Password::attempt("right"), &mut Scratch::default());
            assert_eq!(spent(Some(&hash)), unknown, "{}", hash.as_str());
        }
    }

    #[test]
    fn a_stored_hash_of_more_than_sixteen_times_the_work_is_not_tried() {
        let (now, mut scratch) = (cost(64, 1), Scratch::default());
        let password = Password::attempt("correct horse");
        for (iterations, is_tried) in [(16, true), (17, false)] {
            let hash = cost(64, iterations).hash(&password, &mut Scratch::default());
            assert_eq!(now.verify(&password, Some(&hash), &mut scratch) != Verdict::Wrong, is_tried, "{iterations}");
        }
    }

    #[test]
    fn what_cannot_be_verified_is_wrong() {
        let (cost, mut scratch) = (cost(64, 1), Scratch::default());
        let too_large = self::cost(2048, 1).hash(&Password::attempt("a"), &mut scratch);
        for stored in ["", "a", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=64,t=1,p=1", too_large.as_str()] {
            let stored = PasswordHash::new(stored.to_owned());
            assert_eq!(cost.verify(&Password::attempt("a"), Some(&stored), &mut scratch), Verdict::Wrong);
        }
        assert_eq!(cost.verify(&Password::attempt("a"), None, &mut scratch), Verdict::Wrong);
    }

    /// A vector of the reference implementation (`echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1`, its test.c).
    #[test]
    fn the_reference_implementation_gives_the_same() {
        const HASH: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let cost = Cost { max_memory_kib: 65536, ..cost(65536, 2) };
        let verdict =
            cost.verify(&Password::attempt("password"), Some(&PasswordHash::new(HASH.into())), &mut Scratch::default());
        assert_eq!(verdict, Verdict::Right { rehashed: None });
    }
}
