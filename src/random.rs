//! Random bytes from the operating system. Only this module requests them.

/// Random bytes that cannot be guessed.
///
/// # Panics
/// When the operating system returns no random bytes: every token made without them could be guessed.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Not from AWS-LC: its generator first collects timing jitter of the processor, which delays the start by 20 ms.
    #[expect(
        clippy::expect_used,
        clippy::disallowed_methods,
        reason = "without randomness every token could be guessed; the request ends with 500"
    )]
    getrandom::fill(&mut bytes).expect("the operating system returns random bytes");
    bytes
}
