//! A user reads the list of users and changes its own profile.

use super::{Auth, AuthError, Caller, UserUpdate};
use crate::{
    config::Listing,
    domain::{AuditContext, Limit, Name, Page, User, UserCursor, Username},
    limits::AddressLimit,
    storage::Snapshot,
};

/// The changes to a profile; `None` keeps a value.
#[derive(Debug, Clone, Default)]
pub struct ProfileUpdate {
    /// Not parsed yet: the rules for a username depend on the caller's e-mail.
    pub username: Option<String>,
    pub first_name: Option<Name>,
    pub last_name: Option<Name>,
}

impl Auth {
    /// A page of all users.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`] if the list is for staff, or the database is unavailable.
    pub async fn list_users(
        &self,
        caller: &Caller,
        cursor: &UserCursor,
        limit: Limit,
    ) -> Result<Page<User>, AuthError> {
        if self.policy.listing == Listing::Staff && !caller.user.is_at_least_staff() {
            return Err(AuthError::Forbidden);
        }
        Ok(self.storage.list_users(cursor, limit).await?)
    }

    /// Changes the caller's names.
    ///
    /// # Errors
    /// The username is invalid or taken, the caller was deleted meanwhile, or the database is unavailable.
    pub async fn update_profile(
        &self,
        caller: &Caller,
        update: ProfileUpdate,
        context: &AuditContext,
    ) -> Result<User, AuthError> {
        if update.username.is_some() {
            // The reply reveals whether an account has the username.
            self.check_address(AddressLimit::Create, context.address)?;
        }
        let ProfileUpdate { username, first_name, last_name } = update;
        let update = UserUpdate { username, first_name, last_name, ..UserUpdate::default() };
        let check = |seen: &Snapshot| match &update.username {
            // Deactivated since its token was read.
            _ if seen.actor.is_none() => Err(AuthError::NotFound),
            Some(text) if Username::key_of(text) != seen.account.user.username.key() => {
                self.policy.check_reserved(text)
            }
            _ => Ok(()),
        };
        let id = caller.user.id;
        match self.user_admin.update(id, &update, &context.by(id), check).await {
            Err(AuthError::NotFound) => Err(AuthError::InvalidToken),
            updated => updated,
        }
    }
}
