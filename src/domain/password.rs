//! Passwords in the clear, their hashes, and the rules for new passwords.

use super::{Invalid, text::nfc};
use secrecy::{ExposeSecret, SecretString};

/// A password in NFC, so that the same characters typed on any keyboard are the same bytes. `Debug` hides it, and its
/// memory is wiped when it is dropped.
#[derive(Debug, Clone)]
pub struct Password(SecretString);

impl Password {
    /// A password for a sign-in: any text.
    pub fn attempt(text: &str) -> Self {
        Self(nfc(text).into())
    }

    /// A new password; [`PasswordRules`] checks its length. NUL is refused: other systems would cut the password there.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.contains('\0') {
            return Err(Invalid("must not contain the NUL character"));
        }
        Ok(Self::attempt(text))
    }

    /// For hashing only.
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

/// The stored hash of a password: a PHC string that `passwords` makes and reads. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    pub fn new(phc: String) -> Self {
        Self(phc)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash([redacted])")
    }
}

/// The rules for new passwords. Lengths are in code points after NFC (SP 800-63B-4 §3.1.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordRules {
    pub min_length: usize,
    pub max_length: usize,
}

/// The rule that a password breaks, and what would help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    #[error("The password must have at least {0} characters. A few words in a row are easy to remember.")]
    TooShort(usize),
    #[error("The password must have at most {0} characters.")]
    TooLong(usize),
    #[error("The password is a common password or word. A few unrelated words in a row are harder to guess.")]
    Common,
    #[error("The password is one character repeated. A few words in a row are harder to guess.")]
    Repeated,
    #[error("The password is a run of letters, digits or adjacent keys. A few words in a row are harder to guess.")]
    Run,
    #[error(
        "The password is the e-mail, the username or a name of its user. Choose words that others do not connect with you."
    )]
    Personal,
}

impl PasswordRules {
    pub fn check(self, password: &Password) -> Result<(), WeakPassword> {
        let length = password.0.expose_secret().chars().count();
        if length < self.min_length {
            return Err(WeakPassword::TooShort(self.min_length));
        }
        if length > self.max_length {
            return Err(WeakPassword::TooLong(self.max_length));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn length_is_counted_in_characters_after_nfc() {
        let rules = PasswordRules { min_length: 8, max_length: 256 };
        let check = |text: &str| rules.check(&Password::parse(text).unwrap());
        assert_eq!(check(&"e\u{301}".repeat(7)), Err(WeakPassword::TooShort(8)));
        assert_eq!(check(&"e\u{301}".repeat(8)), Ok(()));
        assert_eq!(check(&"é".repeat(256)), Ok(()));
        assert_eq!(check(&"é".repeat(257)), Err(WeakPassword::TooLong(256)));
    }

    #[test]
    fn a_password_is_not_shown() {
        assert!(!format!("{:?}", Password::attempt("correct horse")).contains("horse"));
    }

    proptest! {
        #[test]
        fn any_text_is_an_attempt_and_a_new_password_has_no_nul(text in any::<String>()) {
            let rules = PasswordRules { min_length: 1, max_length: 10 };
            let tried = Password::attempt(&text);
            prop_assert_eq!(Password::parse(&text).is_ok(), !text.contains('\0'));
            prop_assert_eq!(rules.check(&tried).is_ok(), (1..=10).contains(&nfc(&text).chars().count()));
        }
    }
}
