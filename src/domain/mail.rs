//! Mails to the owner of an account, and the codes in them.

use super::Timestamp;
use strum::{EnumString, IntoStaticStr, VariantArray};

/// What a mail is about. The name is that of its templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum MailKind {
    /// A link and a code to set a new password.
    ResetPassword,
    /// A link and a code that show who reads mail at this address.
    VerifyEmail,
    /// A notice: the account has a new password.
    PasswordChanged,
    /// A notice to the old address: the account has a new one.
    EmailChanged,
    /// A notice: the account has a new API key.
    ApiKeyCreated,
}

impl MailKind {
    /// Whether it only tells what has happened.
    pub fn is_notice(self) -> bool {
        matches!(self, Self::PasswordChanged | Self::EmailChanged | Self::ApiKeyCreated)
    }

    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A mail that is to be sent.
#[derive(Debug, Clone)]
pub struct QueuedMail {
    pub id: i64,
    pub kind: MailKind,
    /// The key of an e-mail; of a notice, the address itself.
    pub address: String,
    pub queued_at: Timestamp,
    pub tries: u32,
}

/// A short code, for a user who reads mail on another device: 8 characters, 40 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailCode(u64);

impl MailCode {
    /// Crockford's base 32: no letter looks like a digit.
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    /// The first 40 bits of a MAC.
    pub fn from_mac(mac: [u8; 32]) -> Self {
        Self(mac[..5].iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
    }

    /// Parses what a user types: in any letter case, with blanks and hyphens, and with O, I and L for 0 and 1.
    pub fn parse(text: &str) -> Option<Self> {
        let typed = text.chars().filter(|c| !matches!(c, ' ' | '-')).map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            c => c,
        });
        let (mut bits, mut length) = (0, 0);
        for c in typed {
            let digit = Self::ALPHABET.iter().position(|known| char::from(*known) == c)?;
            length += 1;
            if length > 8 {
                return None;
            }
            bits = bits << 5 | digit as u64;
        }
        (length == 8).then_some(Self(bits))
    }

    /// The bytes to compare in constant time.
    pub fn to_bytes(&self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

/// As a mail shows it: `XXXX-XXXX`.
impl std::fmt::Display for MailCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for place in (0..8).rev() {
            let digit = (self.0 >> (5 * place)) & 31;
            let digit = Self::ALPHABET[usize::try_from(digit).unwrap_or_default()];
            write!(f, "{}{}", char::from(digit), if place == 4 { "-" } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_code_is_read_as_a_user_types_it() {
        let code = MailCode::parse("0123-ABCD").unwrap();
        for text in ["0123ABCD", "o1 23 abcd", " oi23-abcd ", "0L23 aBcD", "0-1-2-3-A-B-C-D"] {
            assert_eq!(MailCode::parse(text), Some(code.clone()), "{text}");
        }
        for text in ["", "0123ABC", "0123ABCDE", "0123ABCU", "0123ABC!", "0123ABC\0", "０123ABCD"] {
            assert_eq!(MailCode::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_code_survives_the_round_trip(mac in any::<[u8; 32]>()) {
            let code = MailCode::from_mac(mac);
            let text = code.to_string();
            prop_assert_eq!(text.len(), 9);
            prop_assert_eq!(MailCode::parse(&text), Some(code));
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = MailCode::parse(&text);
        }
    }
}
