//! What counts as a username, and what a user may type to sign in.

use super::{
    Email, Invalid,
    text::{folded, is_word, lower, nfc, stands_for_another},
};

/// The name of an account: the account's own e-mail, or letters, marks, digits and `.+-_`.
///
/// Shown as it was chosen (in NFC), compared after case folding. What merely looks like another name is none: letters that
/// show nothing, and those that Unicode keeps for compatibility (`ａｄｍｉｎ`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username {
    shown: String,
    key: String,
}

impl Username {
    /// The longest username in characters, unless it is the account's own e-mail.
    pub const MAX_CHARS: usize = 150;

    /// Reads the username of the account whose e-mail is `own`.
    ///
    /// An `@` is only allowed in the account's own address: otherwise a user could take another's address
    /// as a username, and sign-in by username would mean two accounts.
    ///
    /// # Errors
    /// What a username looks like, when this is none.
    pub fn parse(text: &str, own: &Email) -> Result<Self, Invalid> {
        if text.contains('@') && Email::key_of(text) == own.key() {
            return Ok(Self::of_email(own));
        }
        let shown = nfc(text);
        let length = shown.chars().count();
        if length == 0 || length > Self::MAX_CHARS || !is_word(&shown, ".+-_") || stands_for_another(&shown) {
            return Err(Invalid("must be the account's own e-mail, or 1 to 150 letters, marks, digits and . + - _"));
        }
        let key = folded(&shown);
        Ok(Self { shown, key })
    }

    /// The username of an account that chose none.
    pub fn of_email(email: &Email) -> Self {
        Self { shown: email.as_str().to_owned(), key: email.key().to_owned() }
    }

    /// A username that was parsed before it was stored.
    pub(crate) fn stored(shown: String) -> Self {
        let key = Self::key_of(&shown);
        Self { shown, key }
    }

    /// What a username is compared by, for any text that a client sends as a username.
    pub fn key_of(text: &str) -> String {
        if text.contains('@') { Email::key_of(text) } else { folded(text) }
    }

    /// As it is shown.
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// As it is compared: what the unique index holds.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// The account that a sign-in names. Any text is a try; most name no account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginName {
    Email {
        key: String,
        /// The address as it may be stored, where that is not the key: of two users whose e-mails are one since they were
        /// created, each signs in by its own.
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

    /// The normalised text to look up, or `None` where no account can have it (PostgreSQL refuses NUL in text).
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
    fn the_own_address_is_a_username_and_any_other_address_is_none() {
        assert_eq!(Username::parse("Ann@Example.com", &own()), Ok(Username::of_email(&own())));
        assert!(Username::parse("bob@example.com", &own()).is_err());
    }

    #[test]
    fn a_username_is_shown_as_chosen_and_compared_without_case() {
        let (one, other) = (Username::parse("Ann_B", &own()).unwrap(), Username::parse("ann_b", &own()).unwrap());
        assert_eq!((one.as_str(), one.key()), ("Ann_B", other.key()));
    }

    #[test]
    fn names_of_the_world_are_usernames() {
        for name in ["क्षितिज", "น้ำ", "ນ້ຳ", "நிலா", "Ξένια", "İbrahim", "a\u{301}\u{301}", "Łukasz_1", "عمر", "山田"]
        {
            let username = Username::parse(name, &own()).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            let capitals = Username::parse(&name.to_uppercase(), &own()).unwrap();
            assert_eq!(username.key(), capitals.key(), "{name}");
            assert_eq!(LoginName::username(name).key(), Some(username.key()));
        }
    }

    #[test]
    fn what_is_no_username_is_refused() {
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
