//! A user signs up.

use super::{Auth, AuthError, Presented};
use crate::{
    config::RegistrationMode,
    domain::{Email, Name, Password, Timestamp, User, Username},
    limits::AddressLimit,
};
use std::net::IpAddr;

/// The values of a new account.
#[derive(Debug, Clone)]
pub struct SignUp {
    pub email: Email,
    pub username: Username,
    pub first_name: Name,
    pub last_name: Name,
    pub password: Password,
}

impl Auth {
    /// Creates a user without rights, if `registration.mode` allows this caller to.
    ///
    /// # Errors
    /// Registration is closed or for staff only, the password is weak, the e-mail or the username is taken, or the
    /// service is overloaded or unavailable.
    pub async fn register(
        &self,
        sign_up: SignUp,
        presented: Presented<'_>,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<User, AuthError> {
        self.check_address(AddressLimit::Create, address)?;
        match self.policy.registration {
            RegistrationMode::Open => {}
            RegistrationMode::Closed => return Err(AuthError::RegistrationClosed),
            RegistrationMode::Staff => {
                let caller = self.caller(&self.verify(presented, now)?).await?;
                if !caller.user.is_at_least_staff() {
                    return Err(AuthError::Forbidden);
                }
            }
        }
        self.policy.check_username(&sign_up.username)?;
        self.user_admin.create(sign_up, false, now).await
    }
}
