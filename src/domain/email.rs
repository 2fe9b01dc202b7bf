//! What counts as an e-mail address, and when two of them are one.

use super::{
    Invalid,
    text::{folded, is_word, lower, nfc, shows_nothing},
};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// An e-mail address: in lower case as it is shown and written to, and folded as it is compared.
///
/// They differ for a few letters: mail for `straße@example.com` must not go to `strasse@example.com`, and yet there are
/// no two accounts of these addresses (CVE-2019-19844). A domain is the same in both of its spellings, `münchen.example`
/// and `xn--mnchen-3ya.example`.
#[derive(Debug, Clone, Eq)]
pub struct Email {
    text: String,
    /// `None` where it is `text`.
    key: Option<Box<str>>,
}

impl PartialEq for Email {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Email {
    /// The longest address in characters (RFC 5321 §4.5.3.1.3 leaves 254 for the path).
    pub const MAX_CHARS: usize = 254;

    /// Reads an address as a user typed it: RFC 6531 with a domain of IDNA (UTS #46).
    ///
    /// This is stricter than RFC 5322 on purpose: quoted local parts, comments and address literals are
    /// legal, but users do not sign up with one, and each has been used to smuggle something past a filter.
    ///
    /// # Errors
    /// What a sane address looks like, when this is none.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: Invalid = Invalid("must be an e-mail address such as ann@example.com");
        const TOO_LONG: Invalid = Invalid("must be at most 254 characters long");
        if text.chars().count() > Self::MAX_CHARS {
            return Err(TOO_LONG);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(SHAPE)?;
        let local = lower(local);
        let local_is_sane = local.split('.').all(|part| !part.is_empty() && is_word(part, "!#$%&'*+/=?^_`{|}~-"));
        let domain = domain_of(domain).ok_or(SHAPE)?;
        if !local_is_sane {
            return Err(SHAPE);
        }
        let email = format!("{local}@{domain}");
        if email.chars().count() > Self::MAX_CHARS {
            Err(TOO_LONG)
        } else {
            Ok(Self::stored(email.clone(), Some(Self::key_of(&email))))
        }
    }

    /// What an address is compared by, for any text that a client sends as an address.
    pub fn key_of(text: &str) -> String {
        let Some((local, domain)) = text.rsplit_once('@') else { return folded(text) };
        format!("{}@{}", folded(local), unicode_of(domain).unwrap_or_else(|| folded(domain)))
    }

    /// The beginning of a key, for a search by the beginning of an address. A domain in its other spelling (`xn--…`) is
    /// found by whole labels.
    ///
    /// # Errors
    /// When no address can begin so.
    pub fn prefix(text: &str) -> Result<String, Invalid> {
        let prefix = Self::key_of(text);
        // What is counted is what was sent: folded it may be longer.
        if prefix.chars().any(char::is_control) || text.chars().count() > Self::MAX_CHARS {
            return Err(Invalid("must be the beginning of an e-mail address"));
        }
        Ok(prefix)
    }

    /// An address that was parsed before it was stored, with the key that it was stored with.
    pub(crate) fn stored(text: String, key: Option<String>) -> Self {
        let key = key.filter(|key| *key != text).map(Into::into);
        Self { text, key }
    }

    /// As it is shown, and written to.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As it is compared.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(&self.text)
    }
}

/// A domain in letters, if it is one that mail can be sent to.
fn domain_of(text: &str) -> Option<String> {
    // IDNA would leave these out.
    if text.chars().any(|c| shows_nothing(c) && !is_joiner(c)) {
        return None;
    }
    let ascii = Uts46::new().to_ascii(text.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify);
    let domain = unicode_of(&ascii.ok()?)?;
    // IDNA lets symbols through; it has seen to it that joiners stand where they belong.
    let without_joiners: String = domain.chars().filter(|c| !is_joiner(*c)).collect();
    let is_sane = domain.contains('.') && without_joiners.split('.').all(|label| is_word(label, "-·・׳״\u{375}"));
    is_sane.then(|| nfc(&domain))
}

/// A domain, or the beginning of one, in letters: what UTS #46 makes of it.
fn unicode_of(domain: &str) -> Option<String> {
    if domain.is_ascii() && !domain.to_ascii_lowercase().contains("xn--") {
        return Some(domain.to_ascii_lowercase());
    }
    let (unicode, is_right) = Uts46::new().to_unicode(domain.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
    is_right.is_ok().then(|| unicode.into_owned())
}

/// The two joiners, which some languages write with.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
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
            ("STRASSE@example.com", "stra\u{df}e@example.com"),
            ("\u{17f}am@example.com", "Sam@example.com"),
            ("ΝΊΚΟΣ@example.com", "νίκος@example.com"),
            ("İbrahim@example.com", "i\u{307}brahim@example.com"),
            ("user@MÜNCHEN.example", "user@xn--mnchen-3ya.example"),
            ("用户@例子。广告", "用户@例子.广告"),
        ] {
            assert_eq!(Email::parse(one), Email::parse(other), "{one} and {other}");
            assert!(Email::parse(one).is_ok(), "{one}");
            assert_eq!(Email::key_of(one), Email::parse(other).unwrap().key(), "{one} and {other}");
        }
        let different = ["user@stra\u{df}e.example", "user@strasse.example", "user@xn--mnchen-3ya.example"];
        let keys = different.map(|text| Email::parse(text).unwrap().key().to_owned());
        assert!(keys[0] != keys[1] && keys[1] != keys[2]);
    }

    #[test]
    fn an_address_is_written_to_as_it_was_given() {
        for (text, shown) in [
            ("Stra\u{df}e@Example.com", "stra\u{df}e@example.com"),
            ("user@xn--mnchen-3ya.example", "user@münchen.example"),
        ] {
            assert_eq!(Email::parse(text).unwrap().as_str(), shown);
        }
    }

    #[test]
    fn addresses_of_the_world_are_addresses() {
        let addresses = [
            "संपर्क@डाटामेल.भारत",
            "ผู้ใช้@เครื่องหมาย.ไทย",
            "ಬೆಂಬಲ@ಡೇಟಾಮೇಲ್.ಭಾರತ",
            "மின்னஞ்சல்@உதாரணம்.இந்தியா",
            "अजय@डाटा.भारत",
            "用户@例子.广告",
            "квіточка@пошта.укр",
            "χρήστης@παράδειγμα.ελ",
            "Dörte@Sörensen.example.com",
            "مستخدم@مثال.إختبار",
            "משתמש@דוגמה.טעסט",
            "ぱんだ@例え.テスト",
            "홍길동@예시.테스트",
            "e\u{301}\u{301}@b.cd",
            "user@col·legi.cat",
        ];
        for address in addresses {
            let email = Email::parse(address).unwrap_or_else(|fault| panic!("{address}: {fault}"));
            let (local, _) = email.as_str().split_once('@').unwrap();
            for begin in [local, &local[..local.chars().next().unwrap().len_utf8()], email.as_str()] {
                assert!(email.key().starts_with(&Email::prefix(begin).unwrap()), "{begin} of {address}");
            }
        }
        println!("{} addresses", addresses.len());
    }

    #[test]
    fn a_search_finds_a_domain_in_both_spellings() {
        let key = Email::parse("user@münchen.example").unwrap().key().to_owned();
        for begin in ["user@xn--mnchen-3ya.example", "USER@xn--mnchen-3ya.", "user@Mün", "user@xn--mnchen-3ya", "user@"]
        {
            assert!(key.starts_with(&Email::prefix(begin).unwrap()), "{begin}");
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
            "\u{301}a@b.cd",
            "a@\u{301}b.cd",
            "a\u{3164}@b.cd",
            "a\u{115f}@b.cd",
            "a@b\u{ad}c.de",
            "a@b\u{200b}c.de",
            "a@\u{2764}.cd",
            "a@xn--.cd",
            "a@xn--a.cd",
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
                prop_assert_eq!(Email::prefix(email.as_str()), Ok(email.key().to_owned()));
                let again = Email::parse(email.as_str()).expect("an address that was parsed");
                prop_assert_eq!(again.as_str(), email.as_str());
                prop_assert_eq!(Email::key_of(email.key()), email.key());
            }
        }

        #[test]
        fn an_ordinary_address_is_kept_in_lower_case(text in "[A-Za-z0-9+_-]{1,20}@[A-Za-z0-9]{1,20}\\.[A-Za-z]{2,5}") {
            let email = Email::parse(&text).expect("an ordinary address");
            prop_assert_eq!(email.as_str(), text.to_lowercase());
        }
    }
}
