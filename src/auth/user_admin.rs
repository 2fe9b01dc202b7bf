//! The administration of users by the operator's commands and by `bootstrap`. It checks no rights.

use super::{AuthError, SignUp};
use crate::{
    domain::{
        Email, Limit, LoginName, Name, NewUser, Page, Password, PasswordRules, Timestamp, User, UserCursor, UserId,
        Username,
    },
    passwords::Passwords,
    storage::{Created, Storage, UserRef},
};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;

/// The use cases that check no rights.
#[derive(Clone)]
pub struct UserAdmin {
    storage: Storage,
    passwords: Arc<Passwords>,
    rules: PasswordRules,
}

impl UserAdmin {
    pub fn new(storage: Storage, passwords: Arc<Passwords>, rules: PasswordRules) -> Self {
        Self { storage, passwords, rules }
    }

    /// # Errors
    /// The password is too short or too long.
    pub(super) fn check_length(&self, password: &Password) -> Result<(), AuthError> {
        Ok(self.rules.check(password)?)
    }

    /// Creates a user; a superuser has all rights.
    ///
    /// # Errors
    /// The password is weak, the e-mail or the username is taken, or the service is overloaded or unavailable.
    pub async fn create(&self, sign_up: SignUp, is_superuser: bool, now: Timestamp) -> Result<User, AuthError> {
        let SignUp { email, username, first_name, last_name, password } = sign_up;
        self.check_length(&password)?;
        let personal = [email.as_str(), username.as_str(), first_name.as_str(), last_name.as_str()].map(str::to_owned);
        let hash = self.passwords.hash_new(password, personal.to_vec()).await?;
        let user = NewUser { email, username, first_name, last_name, is_superuser };
        // Duplicates are not checked before hashing: the unique index decides, and an earlier check could be stale.
        match self.storage.create_user(&user, &hash, now).await? {
            Created::User(user) => Ok(user),
            Created::EmailTaken => Err(AuthError::EmailTaken),
            Created::UsernameTaken => Err(AuthError::UsernameTaken),
        }
    }

    /// The user with this id, e-mail or username.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn find(&self, text: &str) -> Result<Option<User>, AuthError> {
        // Digits are always an id: when that id does not exist, a username of the same digits must not be found instead.
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let Some(id) = UserId::parse(text) else { return Ok(None) };
            return Ok(self.storage.find_user(&UserRef::Id(id)).await?);
        }
        match self.storage.find_user(&UserRef::Name(LoginName::email(text))).await? {
            Some(user) => Ok(Some(user)),
            None => Ok(self.storage.find_user(&UserRef::Name(LoginName::username(text))).await?),
        }
    }

    /// A page of all users.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn list(&self, cursor: &UserCursor, limit: Limit) -> Result<Page<User>, AuthError> {
        Ok(self.storage.list_users(cursor, limit).await?)
    }

    /// Sets a password and ends the user's sessions; `None` if there is no such user.
    ///
    /// # Errors
    /// The password is weak, or the service is overloaded or unavailable.
    pub async fn set_password(
        &self,
        id: UserId,
        password: Password,
        now: Timestamp,
    ) -> Result<Option<User>, AuthError> {
        self.check_length(&password)?;
        let Some(user) = self.storage.find_user(&UserRef::Id(id)).await? else { return Ok(None) };
        let hash = self.passwords.hash_new(password, user.personal_words()).await?;
        Ok(self.storage.set_password(id, &hash, now).await?)
    }

    /// Activates a user; `None` if there is no such user.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn activate(&self, id: UserId) -> Result<Option<User>, AuthError> {
        Ok(self.storage.activate(id).await?)
    }

    /// Deactivates a user and ends its sessions; `None` if there is no such user.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn deactivate(&self, id: UserId, now: Timestamp) -> Result<Option<User>, AuthError> {
        Ok(self.storage.deactivate(id, now).await?)
    }

    /// Clears the failed sign-ins of a user, under each name that the user can sign in with. `mac` is
    /// [`Tokens::account_mac`](crate::tokens::Tokens::account_mac).
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn unlock(&self, user: &User, mac: impl Fn(&str) -> [u8; 32]) -> Result<(), AuthError> {
        for login in [LoginName::email(user.email.as_str()), LoginName::username(user.username.as_str())] {
            self.storage.clear_sign_in_failures(&mac(login.text()), None).await?;
        }
        Ok(())
    }

    /// Ends every session of a user.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn sign_out(&self, id: UserId, now: Timestamp) -> Result<(), AuthError> {
        Ok(self.storage.end_sessions(id, now).await?)
    }

    /// Deletes a user with its sessions. Returns whether there was one.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn delete(&self, id: UserId, now: Timestamp) -> Result<bool, AuthError> {
        Ok(self.storage.delete_user(id, now).await?)
    }

    /// Creates a superuser if there is none. If a user has this e-mail, promotes that user and sets this password.
    ///
    /// # Errors
    /// The password is weak, or the service is overloaded or unavailable.
    pub async fn bootstrap(
        &self,
        email: &Email,
        password: &SecretString,
        now: Timestamp,
    ) -> Result<Option<User>, AuthError> {
        if self.storage.has_superuser().await? {
            return Ok(None);
        }
        let password = Password::attempt(password.expose_secret());
        let sign_up = SignUp {
            email: email.clone(),
            username: Username::of_email(email),
            first_name: Name::default(),
            last_name: Name::default(),
            password: password.clone(),
        };
        match self.create(sign_up, true, now).await {
            Ok(user) => Ok(Some(user)),
            Err(AuthError::EmailTaken) => {
                let hash = self.passwords.hash_new(password, vec![email.as_str().to_owned()]).await?;
                Ok(self.storage.promote(email, &hash, now).await?)
            }
            Err(error) => Err(error),
        }
    }
}
