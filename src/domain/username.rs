//! Which usernames are valid, and which account a sign-in names.

use super::{
    Email, Invalid,
    text::{folded, is_changed_by_nfkc, is_word, lower, nfc},
};

/// The name of an account: its own e-mail, or letters, marks, digits and `.+-_`.
///
/// Displayed as the user chose it (in NFC), compared after case folding. Names that only look like another name are refused:
/// those with invisible letters or compatibility characters (`ａｄｍｉｎ`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username {
    text: String,
    key: String,
}

impl Username {
    /// In characters, for a username that is not an e-mail.
    pub const MAX_CHARS: usize = 150;

    /// Parses the username of the account whose e-mail is `own`.
    ///
    /// An `@` is allowed only in the account's own address: otherwise a user could choose the address of another user, and
    /// a sign-in by username would name two accounts.
    pub fn parse(text: &str, own: &Email) -> Result<Self, Invalid> {
        if text.contains('@') && Email::key_of(text) == own.key() {
            return Ok(Self::of_email(own));
        }
        let shown = nfc(text);
        let length = shown.chars().count();
        if length == 0 || length > Self::MAX_CHARS || !is_word(&shown, ".+-_") || is_changed_by_nfkc(&shown) {
            return Err(Invalid("must be the account's own e-mail, or 1 to 150 letters, marks, digits and . + - _"));
        }
        let key = folded(&shown);
        Ok(Self { text: shown, key })
    }

    /// The username of a user that chose none.
    pub fn of_email(email: &Email) -> Self {
        Self { text: email.as_str().to_owned(), key: email.key().to_owned() }
    }

    /// A username from the database, which was parsed before it was stored.
    pub(crate) fn stored(text: String) -> Self {
        let key = Self::key_of(&text);
        Self { text, key }
    }

    /// The key of any text that a client sends as a username.
    pub fn key_of(text: &str) -> String {
        if text.contains('@') { Email::key_of(text) } else { folded(text) }
    }

    /// For display.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// For comparison, and in the unique index.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// The account that a sign-in names. Any text is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginName {
    Email {
        key: String,
        /// The address in lower case, where it differs from the key: two users whose keys became equal after they were
        /// created can still each sign in with their own e-mail.
        exact: Option<String>,
    },
    Username(String),
}

impl LoginName {
    pub fn email(text: &str) -> Self {
        let (key, exact) = (Email::key_of(text), lower(text));
        let exact = Some(exact).filter(|exact| *exact != key && !exact.contains('\0'));
        Self::Email { key, exact }
    }

    pub fn username(text: &str) -> Self {
        Self::Username(Username::key_of(text))
    }

    /// The normalised text, whether or not an account can have it.
    pub fn text(&self) -> &str {
        let (Self::Email { key, .. } | Self::Username(key)) = self;
        key
    }

    /// The key to look up; `None` where no account can have it (PostgreSQL refuses NUL in text).
    pub fn key(&self) -> Option<&str> {
        let (Self::Email { key, .. } | Self::Username(key)) = self;
        (!key.contains('\0')).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn own() -> Email {
        Email::parse("ann@example.com").unwrap()
    }

    #[test]
    fn only_the_users_own_email_is_accepted_as_a_username_with_an_at_sign() {
        assert_eq!(Username::parse("Ann@Example.com", &own()), Ok(Username::of_email(&own())));
        assert!(Username::parse("bob@example.com", &own()).is_err());
    }

    #[test]
    fn a_username_is_shown_as_chosen_and_compared_without_case() {
        let (one, other) = (Username::parse("Ann_B", &own()).unwrap(), Username::parse("ann_b", &own()).unwrap());
        assert_eq!((one.as_str(), one.key()), ("Ann_B", other.key()));
    }

    #[test]
    fn usernames_in_every_script_are_accepted() {
        for name in ["क्षितिज", "น้ำ", "ນ້ຳ", "நிலா", "Ξένια", "İbrahim", "a\u{301}\u{301}", "Łukasz_1", "عمر", "山田"]
        {
            let username = Username::parse(name, &own()).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            let capitals = Username::parse(&name.to_uppercase(), &own()).unwrap();
            assert_eq!(username.key(), capitals.key(), "{name}");
            assert_eq!(LoginName::username(name).key(), Some(username.key()));
        }
    }

    #[test]
    fn an_invalid_username_is_refused() {
        let (longest, too_long) = ("a".repeat(150), "a".repeat(151));
        assert!(Username::parse(&longest, &own()).is_ok());
        let cases = [
            "",
            " ",
            "a b",
            "a@",
            "@",
            "a/b",
            "a\0",
            "a\n",
            "\u{202e}ab",
            "\u{301}a",
            "a\u{3164}",
            "\u{ffa0}",
            "ａｄｍｉｎ",
            "x²",
            "ﬁn",
            "a\u{200b}b",
            "<b>",
            &too_long,
        ];
        for case in cases {
            assert!(Username::parse(case, &own()).is_err(), "{case:?} was taken for a username");
        }
        println!("{} cases", cases.len());
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_idempotent(text in "([\\p{L}\\p{N}.+_\u{300}-\u{36f}-]{0,20}|\\PC{0,20})") {
            if let Ok(name) = Username::parse(&text, &own()) {
                prop_assert_eq!(Username::parse(name.as_str(), &own()), Ok(name.clone()));
                prop_assert_eq!(Username::stored(name.as_str().to_owned()), name);
            }
        }

        #[test]
        fn any_text_is_a_login_name(text in any::<String>()) {
            let _ = (LoginName::email(&text).key(), LoginName::username(&text).key());
        }
    }
}
