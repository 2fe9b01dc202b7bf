//! A user signs up.

use super::{Auth, AuthError, Presented, Rights, Staff};
use crate::{
    config::RegistrationMode,
    domain::{AuditContext, Email, Name, Password, User, Username},
    limits::AddressLimit,
};

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
        context: &AuditContext,
    ) -> Result<User, AuthError> {
        self.check_address(AddressLimit::Create, context.address)?;
        let mut creator = None;
        match self.policy.registration {
            RegistrationMode::Open => {}
            RegistrationMode::Closed => return Err(AuthError::RegistrationClosed),
            RegistrationMode::Staff => {
                let caller = self.caller(&self.verify(presented, None, context.at)?).await?;
                let staff = Staff::check(caller).ok_or(AuthError::Forbidden)?;
                creator = Some(staff.user.id);
            }
        }
        let context = &AuditContext { actor: creator, ..context.clone() };
        self.policy.check_reserved(sign_up.username.as_str())?;
        self.user_admin.create(sign_up, false, context).await
    }
}
