//! Which e-mail addresses are valid, and which two are the same.

use super::{
    Invalid,
    text::{folded, is_invisible, is_word, lower, nfc},
};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// An e-mail address: in lower case for display and mail, and as a case-folded key for comparison.
///
/// The two differ for a few letters: mail for `straße@example.com` must not go to `strasse@example.com`, but only one
/// account can have either address (CVE-2019-19844). `münchen.example` and `xn--mnchen-3ya.example` are the same
/// domain.
#[derive(Debug, Clone, Eq)]
pub struct Email {
    text: String,
    /// `None` where it equals `text`.
    key: Option<Box<str>>,
}

impl PartialEq for Email {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Email {
    /// In characters (RFC 5321 §4.5.3.1.3 leaves 254 for the path).
    pub const MAX_CHARS: usize = 254;

    /// Parses an internationalized address (RFC 6531) with an IDNA domain (UTS #46).
    ///
    /// This is stricter than RFC 5322 on purpose: quoted local parts, comments and address literals are legal, but users do
    /// not sign up with them, and attackers have used each of them to evade filters.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: Invalid = Invalid("must be an e-mail address such as ann@example.com");
        const TOO_LONG: Invalid = Invalid("must be at most 254 characters long");
        if text.chars().count() > Self::MAX_CHARS {
            return Err(TOO_LONG);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(SHAPE)?;
        let local = lower(local);
        let is_local_part = local.split('.').all(|part| !part.is_empty() && is_word(part, "!#$%&'*+/=?^_`{|}~-"));
        let domain = domain_of(domain).ok_or(SHAPE)?;
        if !is_local_part {
            return Err(SHAPE);
        }
        let email = format!("{local}@{domain}");
        if email.chars().count() > Self::MAX_CHARS {
            return Err(TOO_LONG);
        }
        let key = Self::key_of(&email);
        Ok(Self::stored(email, Some(key)))
    }

    /// The key of any text that a client sends as an address.
    pub fn key_of(text: &str) -> String {
        let Some((local, domain)) = text.rsplit_once('@') else { return folded(text) };
        format!("{}@{}", folded(local), unicode_of(domain).unwrap_or_else(|| folded(domain)))
    }

    /// The prefix of a key, for a search by the prefix of an address. A search for `xn--…` finds whole labels only.
    pub fn prefix(text: &str) -> Result<String, Invalid> {
        let prefix = Self::key_of(text);
        // The text is counted as it was sent: folding can make it longer.
        if prefix.chars().any(char::is_control) || text.chars().count() > Self::MAX_CHARS {
            return Err(Invalid("must be the beginning of an e-mail address"));
        }
        Ok(prefix)
    }

    /// An address from the database, which was parsed before it was stored.
    pub(crate) fn stored(text: String, key: Option<String>) -> Self {
        let key = key.filter(|key| *key != text).map(Into::into);
        Self { text, key }
    }

    /// For display and mail.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// For comparison.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(&self.text)
    }
}

/// The Unicode form of a domain; `None` if mail cannot be sent to it.
fn domain_of(text: &str) -> Option<String> {
    // IDNA would remove these.
    if text.chars().any(|c| is_invisible(c) && !is_joiner(c)) {
        return None;
    }
    let ascii = Uts46::new().to_ascii(text.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify);
    let domain = unicode_of(&ascii.ok()?)?;
    // IDNA allows symbols, so each label is checked. The positions of joiners have been checked by IDNA.
    let without_joiners: String = domain.chars().filter(|c| !is_joiner(*c)).collect();
    let is_valid = domain.contains('.') && without_joiners.split('.').all(|label| is_word(label, "-·・׳״\u{375}"));
    is_valid.then(|| nfc(&domain))
}

/// The Unicode form (UTS #46) of a domain or of the beginning of one.
fn unicode_of(domain: &str) -> Option<String> {
    if domain.is_ascii() && !domain.to_ascii_lowercase().contains("xn--") {
        return Some(domain.to_ascii_lowercase());
    }
    let (unicode, result) = Uts46::new().to_unicode(domain.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
    result.is_ok().then(|| unicode.into_owned())
}

/// The zero-width joiner and non-joiner, which some languages need.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_that_differ_in_case_or_unicode_form_are_the_same() {
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
    fn mail_goes_to_the_address_as_the_user_wrote_it() {
        for (text, shown) in [
            ("Stra\u{df}e@Example.com", "stra\u{df}e@example.com"),
            ("user@xn--mnchen-3ya.example", "user@münchen.example"),
        ] {
            assert_eq!(Email::parse(text).unwrap().as_str(), shown);
        }
    }

    #[test]
    fn addresses_in_every_script_are_accepted() {
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
    fn an_invalid_address_is_refused() {
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
