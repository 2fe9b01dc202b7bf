//! Keys, tokens and randomness. The only place that knows jsonwebtoken and aws-lc.

pub mod key_files;
mod keys;
mod ring;
mod tokens;
#[cfg(test)]
mod vectors;

pub use keys::{KeyFault, SigningKey, generate, is_monotonous};
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
