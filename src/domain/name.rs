//! First and last names.

use super::{
    Invalid,
    text::{is_control_or_format, nfc},
};

/// A person's first or last name, in NFC. It may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Name(String);

impl Name {
    pub const MAX_CHARS: usize = 150;

    /// Refuses control and formatting characters: they can forge log lines or reverse the text after them, and
    /// PostgreSQL refuses NUL.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let name = nfc(text);
        if name.chars().count() > Self::MAX_CHARS || name.chars().any(is_control_or_format) {
            return Err(Invalid("must be at most 150 characters, none of them a control or formatting character"));
        }
        Ok(Self(name))
    }

    /// A name from the database, which was parsed before it was stored.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of an API key or a client: a [`Name`] that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayName(Name);

impl DisplayName {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match Name::parse(text) {
            Ok(name) if !name.as_str().is_empty() => Ok(Self(name)),
            _ => Err(Invalid("must be 1 to 150 characters, none of them a control or formatting character")),
        }
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_in_every_script_are_accepted() {
        for name in [
            "",
            "Ann",
            "O'Neil-Smith",
            "Nguyễn Thị",
            "יעל",
            "عائشة",
            "山田",
            "Zoe\u{308}",
            "علی\u{200c}رضا",
            "👩‍🚀",
            &"é".repeat(150),
        ] {
            assert!(Name::parse(name).is_ok(), "{name:?} was refused");
        }
        for name in ["a\0", "a\nb", "\u{1b}[31m", "\u{85}", "a\u{202e}b", "\u{2066}", "a\u{2028}b", &"é".repeat(151)] {
            assert!(Name::parse(name).is_err(), "{name:?} was taken for a name");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_idempotent(text in any::<String>()) {
            if let Ok(name) = Name::parse(&text) {
                prop_assert_eq!(Name::parse(name.as_str()), Ok(name));
            }
        }
    }
}
