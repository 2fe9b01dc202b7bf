//! Random bytes from the operating system. The only place that asks for them.

/// Random bytes that cannot be guessed.
///
/// # Panics
/// When the operating system returns no random bytes: every token made without them could be guessed.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(
        clippy::expect_used,
        clippy::disallowed_methods,
        reason = "without randomness every token could be guessed; the request ends with 500"
    )]
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system returns random bytes");
    bytes
}
