//! What counts as an e-mail address, and when two of them are one.

use super::{Invalid, caseless};

/// An e-mail address in NFC and lower case: the form that is stored, shown and unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// The longest address in characters (RFC 5321 §4.5.3.1.3 leaves 254 for the path).
    pub const MAX_CHARS: usize = 254;

    /// Reads an address as somebody typed it.
    ///
    /// This is stricter than RFC 5322 on purpose: quoted local parts, comments and address literals are
    /// legal, but nobody signs up with one, and each has been used to smuggle something past a filter.
    ///
    /// # Errors
    /// What a sane address looks like, when this is none.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: Invalid = Invalid("must be an e-mail address such as ann@example.com");
        let email = caseless(text);
        if email.chars().count() > Self::MAX_CHARS {
            return Err(Invalid("must be at most 254 characters long"));
        }
        let (local, domain) = email.rsplit_once('@').ok_or(SHAPE)?;
        let local_is_sane = local.split('.').all(|part| {
            !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+/=?^_`{|}~-".contains(c))
        });
        let domain_is_sane = domain.contains('.')
            && domain.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            });
        if local_is_sane && domain_is_sane { Ok(Self(email)) } else { Err(SHAPE) }
    }

    /// The beginning of an address, normalised as [`Email::parse`] does, for a search by prefix.
    ///
    /// # Errors
    /// When no address can begin so.
    pub fn prefix(text: &str) -> Result<String, Invalid> {
        let prefix = caseless(text);
        if prefix.chars().any(char::is_control) || prefix.chars().count() > Self::MAX_CHARS {
            return Err(Invalid("must be the beginning of an e-mail address"));
        }
        Ok(prefix)
    }

    /// An address that was parsed before it was stored.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_address_in_other_letter_case_or_unicode_form_is_one_address() {
        for (one, other) in [
            ("Ann@Example.COM", "ann@example.com"),
            ("jos\u{e9}@example.com", "jose\u{301}@EXAMPLE.com"),
            ("\u{212a}im@example.com", "kim@example.com"),
        ] {
            assert_eq!(Email::parse(one), Email::parse(other), "{one} and {other}");
        }
    }

    #[test]
    fn what_is_no_sane_address_is_refused() {
        let too_long = format!("{}@example.com", "a".repeat(243));
        let cases = [
            "",
            " ",
            "@",
            "a",
            "a@",
            "@b.cd",
            "a@b",
            "a@@b.cd",
            "a b@c.de",
            " a@b.cd",
            "a@b.cd ",
            "a@b.cd\n",
            "a@.cd",
            "a@b.",
            "a@b..cd",
            ".a@b.cd",
            "a.@b.cd",
            "a..b@c.de",
            "a@-b.cd",
            "a@b-.cd",
            "a@b_c.de",
            "\"a b\"@c.de",
            "a@[127.0.0.1]",
            "Ann <a@b.cd>",
            "a,b@c.de",
            "a@b.cd,e@f.gh",
            "a\0@b.cd",
            "a@b.c\0d",
            "a\u{202e}@b.cd",
            "e\u{301}\u{301}@b.cd",
            "a\u{200b}@b.cd",
            "mailto:a@b.cd",
            "a@b.cd/..",
            &too_long,
        ];
        for case in cases {
            assert!(Email::parse(case).is_err(), "{case:?} was taken for an address");
        }
        println!("{} cases", cases.len());
    }

    #[test]
    fn the_longest_address_has_254_characters() {
        assert!(Email::parse(&format!("{}@example.com", "a".repeat(242))).is_ok());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = (Email::parse(&text), Email::prefix(&text));
        }

        #[test]
        fn parsing_is_idempotent(text in "[\\p{L}\\p{N}\u{300}-\u{36f}]{1,8}@[\\p{L}\\p{N}\u{300}-\u{36f}]{1,8}\\.[\\p{L}]{2}") {
            if let Ok(email) = Email::parse(&text) {
                prop_assert_eq!(Email::prefix(email.as_str()), Ok(email.as_str().to_owned()));
                prop_assert_eq!(Email::parse(email.as_str()), Ok(email));
            }
        }

        #[test]
        fn an_ordinary_address_is_kept_in_lower_case(text in "[A-Za-z0-9+_-]{1,20}@[A-Za-z0-9]{1,20}\\.[A-Za-z]{2,5}") {
            let email = Email::parse(&text).expect("an ordinary address");
            prop_assert_eq!(email.as_str(), text.to_lowercase());
        }
    }
}
