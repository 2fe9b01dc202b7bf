//! The operator, at the command line or through `bootstrap`, looks after users. Whoever gets here may do everything.

use super::{Auth, AuthError, SignUp};
use crate::{
    domain::{Email, Limit, LoginName, Name, Page, Password, Timestamp, User, UserCursor, UserId, Username},
    storage::Who,
};

/// The use cases that no token opens.
pub struct Operator<'a>(pub &'a Auth);

impl Operator<'_> {
    /// Creates a user, with every right if it is to be a superuser.
    ///
    /// # Errors
    /// The password is weak, e-mail or username are taken, or the service cannot work now.
    pub async fn create(&self, sign_up: SignUp, is_superuser: bool, now: Timestamp) -> Result<User, AuthError> {
        self.0.create(sign_up, is_superuser, now).await
    }

    /// The user with this id, e-mail or username.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn find(&self, who: &str) -> Result<Option<User>, AuthError> {
        // An id first: a username of digits is found by the e-mail, and an id is what the list shows.
        let candidates = [
            UserId::parse(who).map(Who::Id),
            Some(Who::Name(LoginName::email(who))),
            Some(Who::Name(LoginName::username(who))),
        ];
        for candidate in candidates.into_iter().flatten() {
            if let Some(user) = self.0.storage.find_user(&candidate).await? {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }

    /// A page of all users.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn list(&self, cursor: &UserCursor, limit: Limit) -> Result<Page<User>, AuthError> {
        Ok(self.0.storage.list_users(cursor, limit).await?)
    }

    /// Sets a password and ends the user's sessions; `None` when the user is gone.
    ///
    /// # Errors
    /// The password is weak, or the service cannot work now.
    pub async fn set_password(
        &self,
        id: UserId,
        password: Password,
        now: Timestamp,
    ) -> Result<Option<User>, AuthError> {
        self.0.policy.password.check(&password)?;
        let hash = self.0.passwords.hash(password).await?;
        Ok(self.0.storage.set_password(id, &hash, now).await?)
    }

    /// Lets a user in again, or shuts it out and ends its sessions; `None` when the user is gone.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn set_active(&self, id: UserId, is_active: bool, now: Timestamp) -> Result<Option<User>, AuthError> {
        Ok(self.0.storage.set_active(id, is_active, now).await?)
    }

    /// Deletes a user with its sessions; whether there was one.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn delete(&self, id: UserId) -> Result<bool, AuthError> {
        Ok(self.0.storage.delete_user(id).await?)
    }

    /// Makes the first superuser, while there is none: a new user, or the one who has that e-mail, with this password.
    ///
    /// # Errors
    /// The password is weak, or the service cannot work now.
    pub async fn bootstrap(&self, email: &Email, password: &str, now: Timestamp) -> Result<Option<User>, AuthError> {
        if self.0.storage.has_superuser().await? {
            return Ok(None);
        }
        let password = Password::attempt(password);
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
                let hash = self.0.passwords.hash(password).await?;
                Ok(self.0.storage.promote(email, &hash, now).await?)
            }
            Err(error) => Err(error),
        }
    }
}
