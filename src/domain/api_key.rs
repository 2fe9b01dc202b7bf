//! API keys: long-lived secrets of users for programs, exchanged for access tokens.

use super::{Invalid, Seconds, SessionId, Timestamp};
use std::fmt;

/// The secret of an API key: `sgn_`, 256 random bits as 43 base62 digits, and the CRC-32 of these 47 characters as 6
/// base62 digits. Secret scanners recognise it, and a mistyped key costs no query.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeySecret(String);

impl ApiKeySecret {
    const PREFIX: &str = "sgn_";
    const RANDOM_DIGITS: usize = 43;
    const CHECK_DIGITS: usize = 6;

    pub fn from_random(bits: [u8; 32]) -> Self {
        let text = format!("{}{}", Self::PREFIX, base62(bits, Self::RANDOM_DIGITS));
        let check = Self::check(&text);
        Self(text + &check)
    }

    /// Parses a secret; `None` if its form or its checksum is wrong.
    pub fn parse(text: &str) -> Option<Self> {
        let is_of_alphabet = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let digits = text.strip_prefix(Self::PREFIX)?;
        if digits.len() != Self::RANDOM_DIGITS + Self::CHECK_DIGITS || !is_of_alphabet(digits) {
            return None;
        }
        let (random, check) = text.split_at(text.len() - Self::CHECK_DIGITS);
        (Self::check(random) == check).then(|| Self(text.to_owned()))
    }

    fn check(text: &str) -> String {
        base62(crc32fast::hash(text.as_bytes()).to_be_bytes(), Self::CHECK_DIGITS)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Without the secret.
impl fmt::Debug for ApiKeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeySecret")
    }
}

/// Writes a big-endian number as `count` digits of `0-9A-Za-z`, the most significant first.
fn base62<const N: usize>(mut number: [u8; N], count: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut digits = vec!['0'; count];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0;
        for byte in &mut number {
            let dividend = remainder << 8 | usize::from(*byte);
            *byte = u8::try_from(dividend / 62).unwrap_or_default();
            remainder = dividend % 62;
        }
        *digit = char::from(DIGITS[remainder]);
    }
    digits.into_iter().collect()
}

/// The lifetime of an API key: up to ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiKeyLifetime(Seconds);

impl ApiKeyLifetime {
    pub fn parse(seconds: i64) -> Result<Self, Invalid> {
        let is_valid = (1..=315_360_000).contains(&seconds);
        if is_valid { Ok(Self(Seconds(seconds))) } else { Err(Invalid("must be from 1 to 315360000 seconds")) }
    }

    pub fn seconds(self) -> Seconds {
        self.0
    }
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The `sid` of its access tokens.
    pub id: SessionId,
    pub name: String,
    /// The only audience that its access tokens can have; `None` for no restriction.
    pub audience: Option<String>,
    pub created_at: Timestamp,
    /// `None` for a key that does not expire.
    pub expires_at: Option<Timestamp>,
    /// Exact to a minute.
    pub last_used_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_secret_has_the_form_that_scanners_know() {
        // Computed with the integers and `zlib.crc32` of Python.
        let rows = [
            ([0; 32], "sgn_00000000000000000000000000000000000000000002yq49O"),
            ([0xff; 32], "sgn_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp10AWRVu"),
            (
                std::array::from_fn(|byte| u8::try_from(byte).unwrap()),
                "sgn_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf2dDpPK",
            ),
        ];
        for (bits, text) in rows {
            assert_eq!(ApiKeySecret::from_random(bits).as_str(), text);
        }
    }

    #[test]
    fn a_mistyped_secret_is_refused() {
        let secret = ApiKeySecret::from_random([0xab; 32]);
        let text = secret.as_str();
        assert_eq!(ApiKeySecret::parse(text), Some(secret.clone()));
        let wrong = [
            String::new(),
            "sgn_".to_owned(),
            text[1..].to_owned(),
            text[..52].to_owned(),
            format!("{text}0"),
            format!(" {text}"),
            text.replace("sgn_", "SGN_"),
            format!("{}\u{e9}{}", &text[..10], &text[12..]),
        ];
        for text in &wrong {
            assert_eq!(ApiKeySecret::parse(text), None, "{text:?}");
        }
        assert!(!format!("{secret:?}").contains(&text[4..10]));
    }

    proptest! {
        #[test]
        fn a_secret_survives_the_round_trip(bits in any::<[u8; 32]>()) {
            let secret = ApiKeySecret::from_random(bits);
            prop_assert_eq!(ApiKeySecret::parse(secret.as_str()), Some(secret));
        }

        #[test]
        fn one_wrong_character_is_noticed(bits in any::<[u8; 32]>(), place in 4..53_usize, other in "[0-9A-Za-z]") {
            let text = ApiKeySecret::from_random(bits).0;
            prop_assume!(text[place..=place] != other);
            let changed = format!("{}{other}{}", &text[..place], &text[place + 1..]);
            prop_assert_eq!(ApiKeySecret::parse(&changed), None);
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = ApiKeySecret::parse(&text);
        }
    }
}
