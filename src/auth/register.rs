//! Somebody signs up.

use super::{Auth, AuthError, Presented};
use crate::{
    config::RegistrationMode,
    domain::{Email, Name, NewUser, Password, Timestamp, User, Username},
    storage::Created,
};

/// What somebody who signs up may say of themselves. There is no place for a right here.
#[derive(Debug, Clone)]
pub struct SignUp {
    pub email: Email,
    pub username: Username,
    pub first_name: Name,
    pub last_name: Name,
    pub password: Password,
}

impl Auth {
    /// Creates an ordinary user, if `registration.mode` lets this caller.
    ///
    /// # Errors
    /// Registration is closed or for staff, the password is weak, e-mail or username are taken, or the service cannot work now.
    pub async fn register(&self, sign_up: SignUp, presented: &Presented, now: Timestamp) -> Result<User, AuthError> {
        match self.policy.registration {
            RegistrationMode::Open => {}
            RegistrationMode::Closed => return Err(AuthError::RegistrationClosed),
            RegistrationMode::Staff => {
                let caller = self.authenticate(presented, now).await?;
                if !caller.user.is_at_least_staff() {
                    return Err(AuthError::Forbidden);
                }
            }
        }
        self.create(sign_up, false, now).await
    }

    /// Creates a user whoever asks: for the paths that have checked that already.
    pub(super) async fn create(&self, sign_up: SignUp, is_superuser: bool, now: Timestamp) -> Result<User, AuthError> {
        let SignUp { email, username, first_name, last_name, password } = sign_up;
        self.policy.password.check(&password)?;
        let hash = self.passwords.hash(password).await?;
        let user = NewUser { email, username, first_name, last_name, is_superuser };
        // Not asked before hashing: of sixteen at once the index lets one through, and a question would only be older.
        match self.storage.create_user(&user, &hash, now).await? {
            Created::User(user) => Ok(user),
            Created::EmailTaken => Err(AuthError::EmailTaken),
            Created::UsernameTaken => Err(AuthError::UsernameTaken),
        }
    }
}
