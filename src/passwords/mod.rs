//! Hashes and verifies passwords with Argon2id (RFC 9106), and does the same work for an account that does not exist.
//!
//! The crate `argon2-rust` computes hashes with the vector instructions of the processor. The crate `argon2` parses PHC
//! strings, and is the reference that `argon2-rust` is compared with when the service starts.

mod hash_pool;
mod weakness;

pub use hash_pool::{HashError, Permit};
pub use weakness::Blocklist;

use crate::{
    domain::{Password, PasswordHash},
    random::random,
    telemetry::HashWaits,
};
use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::phc::{self, Output, Salt},
};
use argon2_rust::params::{Memory, TagLen};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use hash_pool::{HashPool, Worker, cpu_time};
use std::{hint::spin_loop, io, sync::Arc, time::Duration};

/// The length of a hash, in bytes.
const TAG: usize = Params::DEFAULT_OUTPUT_LEN;

/// A hash thread that has no work for this long frees its memory.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    /// With a new hash if the parameters of the stored one are not the current ones.
    Right {
        rehashed: Option<PasswordHash>,
    },
}

/// The Argon2id parameters of a new hash, and the size of the pool of hash threads.
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
    /// How long a hash thread sleeps after each hash, as a multiple of the CPU time of the hash.
    pub cooldown: f64,
}

/// Hashes and verifies on hash threads.
pub struct Passwords {
    pool: HashPool,
    cost: Cost,
    blocklist: Arc<Blocklist>,
}

/// The cost of a new hash, and the most that a stored one may cost.
#[derive(Debug, Clone)]
struct Cost {
    params: Params,
    max_memory_kib: u32,
}

impl Passwords {
    /// # Errors
    /// When `argon2-rust` computes wrong hashes on this processor, the system refuses to start a thread, or Argon2 does
    /// not allow these parameters.
    pub fn start(hashing: Hashing, blocklist: Blocklist, waits: HashWaits) -> io::Result<Self> {
        let Hashing { memory_kib, iterations, parallelism, max_memory_kib, threads, cooldown, .. } = hashing;
        let params = Params::new(memory_kib, iterations, parallelism, Some(TAG)).map_err(io::Error::other)?;
        compare_with_reference()?;
        let backend = argon2_rust::detected_backend().name();
        tracing::info!(backend, threads, cooldown, "hashing passwords");
        Ok(Self {
            pool: HashPool::start(hashing, IDLE_TIMEOUT, waits)?,
            cost: Cost { params, max_memory_kib },
            blocklist: Arc::new(blocklist),
        })
    }

    /// How many requests wait for a hash thread.
    pub fn waiting(&self) -> usize {
        self.pool.waiting()
    }

    /// Takes the permit for one [`Passwords::verify`], or fails at once. A request takes it before it does any other work,
    /// so a refused request costs nothing.
    pub fn try_acquire(&self) -> Result<Permit, HashError> {
        self.pool.try_acquire()
    }

    /// Whether another request may wait for a hash thread.
    pub fn has_room(&self) -> bool {
        self.pool.has_room()
    }

    /// The hash to store for a new password. `personal` are the e-mail, the username and the names of its user.
    ///
    /// # Errors
    /// [`HashError::Weak`] if the password is easy to guess, or no hash thread is free in time.
    pub async fn hash_new(&self, password: Password, personal: Vec<String>) -> Result<PasswordHash, HashError> {
        let (cost, blocklist) = (self.cost.clone(), Arc::clone(&self.blocklist));
        self.pool
            .run(self.try_acquire()?, move |worker| {
                weakness::check(&password, &personal, &blocklist)?;
                cost.hash(&password, worker)
            })
            .await?
    }

    /// Compares a password with a stored hash. Does the same work without one, so that the time does not reveal whether
    /// an account exists.
    pub async fn verify(
        &self,
        permit: Permit,
        password: Password,
        stored: Option<PasswordHash>,
    ) -> Result<Verdict, HashError> {
        let cost = self.cost.clone();
        self.pool.run(permit, move |worker| cost.verify(&password, stored.as_ref(), worker)).await?
    }
}

/// Checks that `argon2-rust` and `argon2` compute the same hash on this processor. Takes about a millisecond, while the
/// service opens the database.
fn compare_with_reference() -> io::Result<()> {
    // With 1 MiB, each segment (a quarter of the memory) needs more than one block of addresses.
    let params = Params::new(1024, 2, 1, Some(TAG)).map_err(io::Error::other)?;
    let tag = tag(&params, b"password", b"somesalt", &mut Worker::default()).map_err(io::Error::other)?;
    if reference_tag(&params, b"password", b"somesalt").map_err(io::Error::other)? == tag {
        return Ok(());
    }
    let backend = argon2_rust::detected_backend();
    let fault = "compute different hashes on this processor; please report it";
    Err(io::Error::other(format!("argon2-rust ({backend}) and argon2 {fault}")))
}

/// Hashes with `argon2-rust`, in the memory of `worker`, and counts the work.
fn tag(params: &Params, password: &[u8], salt: &[u8], worker: &mut Worker) -> Result<[u8; TAG], HashError> {
    worker.work += work(params);
    let (memory, tag_len) = (Memory::kib(params.m_cost().into()), TagLen::bytes(TAG as u64));
    let lanes_and_passes = argon2_rust::Params::builder().passes(params.t_cost()).lanes(params.p_cost());
    let params = lanes_and_passes.memory(memory).tag_len(tag_len).build()?;
    let (algorithm, version) = (argon2_rust::Algorithm::Argon2id, argon2_rust::Version::V0x13);
    worker.hasher.set_argon2(argon2_rust::Argon2::new(algorithm, version, params));
    let mut tag = [0; TAG];
    worker.hasher.hash_into(password, salt, &mut tag)?;
    Ok(tag)
}

/// Hashes with `argon2`.
fn reference_tag(params: &Params, password: &[u8], salt: &[u8]) -> argon2::Result<[u8; TAG]> {
    let mut tag = [0; TAG];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    argon2.hash_password_into(password, salt, &mut tag)?;
    Ok(tag)
}

impl Cost {
    fn hash(&self, password: &Password, worker: &mut Worker) -> Result<PasswordHash, HashError> {
        let (params, salt) = (&self.params, random::<16>());
        let tag = tag(params, password.expose(), &salt, worker)?;
        let (m, t, p) = (params.m_cost(), params.t_cost(), params.p_cost());
        let (salt, tag) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(tag));
        Ok(PasswordHash::new(format!("$argon2id$v=19$m={m},t={t},p={p}${salt}${tag}")))
    }

    fn verify(
        &self,
        password: &Password,
        stored: Option<&PasswordHash>,
        worker: &mut Worker,
    ) -> Result<Verdict, HashError> {
        let began = cpu_time();
        let mut is_outdated = false;
        let spent = match stored.and_then(|stored| self.read(stored)) {
            None => 0,
            Some((params, salt, expected)) => {
                let output = tag(&params, password.expose(), salt.as_ref(), worker)?;
                // `Output` compares in constant time.
                if Output::new(&output).ok() == Some(expected) {
                    let is_current = params == self.params;
                    let rehashed = if is_current { None } else { Some(self.hash(password, worker)?) };
                    return Ok(Verdict::Right { rehashed });
                }
                is_outdated = params != self.params;
                work(&params)
            }
        };
        // An unknown account and an older, cheaper hash must take as long as a new hash.
        if let Some(missing) = self.missing_work(spent) {
            tag(&missing, password.expose(), &[0; 16], worker)?;
        }
        let took = || cpu_time().saturating_sub(began);
        if is_outdated {
            // The same work with other parameters takes less time, by at most about a millisecond.
            while took() < worker.usual_time {
                spin_loop();
            }
        } else {
            worker.note_time(took());
        }
        Ok(Verdict::Wrong)
    }

    /// The parameters of a hash whose work, added to `spent`, is that of a new hash. `None` if less is missing than the
    /// smallest hash needs, which takes microseconds.
    fn missing_work(&self, spent: u64) -> Option<Params> {
        // With as many passes as a new hash: a later pass takes longer than the first.
        let memory = work(&self.params).saturating_sub(spent) / u64::from(self.params.t_cost());
        Params::new(u32::try_from(memory).ok()?, self.params.t_cost(), self.params.p_cost(), Some(TAG)).ok()
    }

    /// Parses a stored hash; `None` if it cannot be verified. It must be Argon2id, version 19, of 32 bytes, with no more
    /// memory than allowed and no more work than [`MAX_WORK`] new hashes: otherwise one row could occupy a hash thread for
    /// days.
    fn read(&self, stored: &PasswordHash) -> Option<(Params, Salt, Output)> {
        let read = || {
            let hash = phc::PasswordHash::new(stored.as_str()).ok()?;
            let params = Params::try_from(&hash).ok()?;
            let (salt, output) = (hash.salt?, hash.hash?);
            let is_ours = hash.algorithm == Algorithm::Argon2id.ident()
                && hash.version == Some(Version::V0x13.into())
                && output.len() == TAG
                && params.m_cost() <= self.max_memory_kib
                && work(&params) <= MAX_WORK * work(&self.params);
            is_ours.then_some((params, salt, output))
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

/// The work that a stored hash may take, in new hashes.
const MAX_WORK: u64 = 16;

/// The work of a hash: the KiB that it fills, over all its passes.
fn work(params: &Params) -> u64 {
    u64::from(params.m_cost()) * u64::from(params.t_cost())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prelude::*, test_runner::TestRunner};

    fn cost(memory_kib: u32, iterations: u32) -> Cost {
        Cost { params: Params::new(memory_kib, iterations, 1, Some(TAG)).unwrap(), max_memory_kib: 1024 }
    }

    impl Cost {
        fn hash_of(&self, password: &str) -> PasswordHash {
            self.hash(&Password::attempt(password), &mut Worker::default()).unwrap()
        }

        fn verdict(&self, password: &str, stored: Option<&PasswordHash>) -> Verdict {
            self.verify(&Password::attempt(password), stored, &mut Worker::default()).unwrap()
        }
    }

    #[test]
    fn the_right_password_is_right_and_any_other_is_wrong() {
        let cost = cost(64, 1);
        let hash = cost.hash_of("correct horse");
        assert_eq!(cost.verdict("correct horse", Some(&hash)), Verdict::Right { rehashed: None });
        for wrong in ["", "correct horsE", "correct horse ", "correct hors"] {
            assert_eq!(cost.verdict(wrong, Some(&hash)), Verdict::Wrong, "{wrong:?}");
        }
    }

    #[test]
    fn a_password_is_the_same_in_every_unicode_form() {
        let cost = cost(64, 1);
        let hash = cost.hash_of("caf\u{e9} au lait");
        assert_eq!(cost.verdict("cafe\u{301} au lait", Some(&hash)), Verdict::Right { rehashed: None });
    }

    #[test]
    fn a_hash_with_other_parameters_is_verified_and_replaced() {
        let (old, new) = (cost(32, 2), cost(64, 1));
        let hash = old.hash_of("correct horse");
        let Verdict::Right { rehashed: Some(rehashed) } = new.verdict("correct horse", Some(&hash)) else {
            panic!("no new hash");
        };
        assert!(rehashed.as_str().contains("m=64,t=1,p=1"));
        assert_eq!(new.verdict("correct horse", Some(&rehashed)), Verdict::Right { rehashed: None });
    }

    /// Counted, not timed: the work must not reveal which address has an account.
    #[test]
    fn a_wrong_password_costs_the_same_work_whatever_the_stored_hash_cost() {
        let (now, mut worker) = (cost(64, 3), Worker::default());
        let mut spent = |stored: Option<&PasswordHash>| {
            worker.work = 0;
            assert_eq!(now.verify(&Password::attempt("wrong"), stored, &mut worker), Ok(Verdict::Wrong));
            worker.work
        };
        let unknown = spent(None);
        for (memory_kib, iterations) in [(64, 3), (64, 1), (8, 1), (24, 2), (100, 1), (8, 24)] {
            let hash = cost(memory_kib, iterations).hash_of("right");
            let missing = unknown.abs_diff(spent(Some(&hash)));
            assert!(missing < u64::from(now.params.t_cost()), "{}: {missing}", hash.as_str());
        }
    }

    #[test]
    fn a_stored_hash_of_more_than_sixteen_times_the_work_is_refused() {
        let now = cost(64, 1);
        for (iterations, is_tried) in [(16, true), (17, false)] {
            let hash = cost(64, iterations).hash_of("correct horse");
            assert_eq!(now.verdict("correct horse", Some(&hash)) != Verdict::Wrong, is_tried, "{iterations}");
        }
    }

    #[test]
    fn a_stored_hash_that_cannot_be_verified_makes_every_password_wrong() {
        let cost = cost(64, 1);
        let too_large = self::cost(2048, 1).hash_of("a");
        for stored in ["", "a", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=64,t=1,p=1", too_large.as_str()] {
            let stored = PasswordHash::new(stored.to_owned());
            assert_eq!(cost.verdict("a", Some(&stored)), Verdict::Wrong);
        }
        assert_eq!(cost.verdict("a", None), Verdict::Wrong);
    }

    /// A vector of the C reference (`echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1`, its test.c).
    #[test]
    fn a_hash_of_the_c_reference_is_verified() {
        const HASH: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let cost = Cost { max_memory_kib: 65536, ..cost(65536, 2) };
        let verdict = cost.verdict("password", Some(&PasswordHash::new(HASH.into())));
        assert_eq!(verdict, Verdict::Right { rehashed: None });
    }

    /// For all parameters and inputs, and whatever the last hash left in the memory.
    #[test]
    fn argon2_rust_and_argon2_compute_the_same_hash() {
        let inputs = (1_u32..=4, 1_u32..=4, 0_u32..60, any::<Vec<u8>>(), prop::collection::vec(any::<u8>(), 8..40));
        let mut runner = TestRunner::new(ProptestConfig { cases: 1500, ..ProptestConfig::default() });
        let worker = std::cell::RefCell::new(Worker::default());
        let result = runner.run(&inputs, |(passes, lanes, more, password, salt)| {
            let params = Params::new(8 * lanes + more, passes, lanes, Some(TAG)).unwrap();
            let tag = tag(&params, &password, &salt, &mut worker.borrow_mut());
            prop_assert_eq!(tag, Ok(reference_tag(&params, &password, &salt).unwrap()));
            Ok(())
        });
        result.unwrap();
        // As large as in production.
        let params = Params::new(19_456, 2, 1, Some(TAG)).unwrap();
        let tag = tag(&params, b"correct horse", &[7; 16], &mut worker.borrow_mut());
        assert_eq!(tag, Ok(reference_tag(&params, b"correct horse", &[7; 16]).unwrap()));
        compare_with_reference().unwrap();
    }
}
