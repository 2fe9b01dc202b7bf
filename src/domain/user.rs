//! Users and their roles.

use super::{Action, Email, Name, PasswordHash, Timestamp, Username};
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

/// Changes to a user; `None` leaves a value as it is.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    pub email: Option<Email>,
    pub username: Option<Username>,
    pub first_name: Option<Name>,
    pub last_name: Option<Name>,
    pub is_active: Option<bool>,
    pub is_staff: Option<bool>,
    pub is_superuser: Option<bool>,
    pub is_verified: Option<bool>,
    pub claims: Option<Map<String, Value>>,
    pub password_hash: Option<PasswordHash>,
}

impl UserChange {
    /// Whether the sessions of the user end: a deactivated user has none, and a session that began with the old password must
    /// not continue.
    pub fn ends_sessions(&self) -> bool {
        self.is_active == Some(false) || self.password_hash.is_some()
    }

    /// Whether this takes the rights of an active superuser away.
    pub fn removes_superuser(&self, user: &User) -> bool {
        user.is_superuser && user.is_active && (self.is_superuser == Some(false) || self.is_active == Some(false))
    }

    /// What the audit records of this change.
    pub fn actions(&self, user: &User) -> Vec<Action> {
        let differs = |new: Option<bool>, old: bool| new.is_some_and(|new| new != old);
        let Self {
            email, username, first_name, last_name, is_active, is_staff, is_superuser, is_verified, claims, ..
        } = self;
        let changes_profile = username.as_ref().is_some_and(|username| *username != user.username)
            || first_name.as_ref().is_some_and(|name| *name != user.first_name)
            || last_name.as_ref().is_some_and(|name| *name != user.last_name)
            || claims.as_ref().is_some_and(|claims| *claims != user.claims)
            || differs(*is_verified, user.is_verified);
        let changes_rights = differs(*is_staff, user.is_staff) || differs(*is_superuser, user.is_superuser);
        let activation = if *is_active == Some(true) { Action::UserActivate } else { Action::UserDeactivate };
        let actions = [
            (email.as_ref().is_some_and(|email| *email != user.email), Action::EmailChange),
            (changes_profile, Action::UserUpdate),
            (changes_rights, Action::RightsChange),
            (differs(*is_active, user.is_active), activation),
            (self.password_hash.is_some(), Action::PasswordSet),
        ];
        actions.into_iter().filter(|(applies, _)| *applies).map(|(_, action)| action).collect()
    }
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
