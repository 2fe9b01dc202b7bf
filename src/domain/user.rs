//! Users and their roles.

use super::{Email, Name, Timestamp, Username};
use serde_json::{Map, Value};
use std::fmt;
use strum::{EnumString, IntoStaticStr, VariantNames};

/// The id of a user. Never reused, even after the user is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserId(pub i64);

impl UserId {
    /// Parses the one form in which ids are written: digits, without sign or leading zeros. (`007` would be a second
    /// spelling of 7.)
    pub fn parse(text: &str) -> Option<Self> {
        let has_one_spelling =
            text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        if has_one_spelling { text.parse().ok().map(Self) } else { None }
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A stored user, without the password hash: a type without it cannot leak it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub email: Email,
    pub username: Username,
    pub first_name: Name,
    pub last_name: Name,
    pub is_active: bool,
    pub is_staff: bool,
    pub is_superuser: bool,
    pub is_verified: bool,
    pub created_at: Timestamp,
    pub last_login: Option<Timestamp>,
    /// Claims that the user's access tokens have in addition to those of Signet.
    pub claims: Map<String, Value>,
}

impl User {
    pub fn roles(&self) -> Vec<Role> {
        let staff = self.is_staff.then_some(Role::Staff);
        let superuser = self.is_superuser.then_some(Role::Superuser);
        staff.into_iter().chain(superuser).collect()
    }

    pub fn identity(&self, field: UserIdField) -> String {
        match field {
            UserIdField::Id => self.id.to_string(),
            UserIdField::Email => self.email.as_str().to_owned(),
            UserIdField::Username => self.username.as_str().to_owned(),
        }
    }

    /// What others know about the user: each of these is a weak password.
    pub fn personal_words(&self) -> Vec<String> {
        let Self { email, username, first_name, last_name, .. } = self;
        [email.as_str(), username.as_str(), first_name.as_str(), last_name.as_str()].map(str::to_owned).to_vec()
    }

    /// Superusers may do everything that staff may.
    pub fn is_at_least_staff(&self) -> bool {
        self.is_staff || self.is_superuser
    }
}

/// The field of a user that the claim `jwt.user_id_claim` contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum UserIdField {
    Id,
    Email,
    Username,
}

/// A user to be stored.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub email: Email,
    pub username: Username,
    pub first_name: Name,
    pub last_name: Name,
    /// Makes the user staff and superuser; false for a sign-up.
    pub is_superuser: bool,
}

/// A role in the `roles` claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Role {
    Staff,
    Superuser,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_has_one_spelling() {
        assert_eq!(UserId::parse("7"), Some(UserId(7)));
        for text in ["", "007", "+7", "-7", " 7", "7 ", "7.0", "0x7", "९", "99999999999999999999", "7\0"] {
            assert_eq!(UserId::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn an_id_survives_the_round_trip(id in 0..i64::MAX) {
            prop_assert_eq!(UserId::parse(&UserId(id).to_string()), Some(UserId(id)));
        }
    }
}
