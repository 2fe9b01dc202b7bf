//! Keys, tokens, hashes and randomness. The only place that knows argon2, jsonwebtoken and aws-lc.

#[cfg(target_arch = "x86_64")]
mod argon2_kernel;
mod argon2_memory;
mod argon2id;
mod give_way;
mod hash_threads;
pub mod key_files;
mod keys;
mod passwords;
mod ring;
mod tokens;
#[cfg(test)]
mod vectors;

pub use argon2_memory::Memory;
pub use argon2id::{Argon2id, Kernel, TAG};
pub use hash_threads::{HashError, Place};
pub use keys::{KeyFault, SigningKey, generate, is_monotonous};
pub use passwords::{Hashing, Passwords, Verdict};
pub use ring::{Beginning, KeyRing, KeyState, MAX_AGE, RingKey};
pub use tokens::{AddedClaims, Issuer, Keys, REGISTERED, Refusal, SigningFailed, TokenNames, Tokens};

/// Bytes that nobody can guess.
///
/// # Panics
/// When the system has no randomness to give: nothing that this service does would be safe.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(
        clippy::expect_used,
        clippy::disallowed_methods,
        reason = "without randomness every token could be guessed; the request ends with 500"
    )]
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has no randomness to give");
    bytes
}
