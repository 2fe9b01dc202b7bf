//! A user reads the list of users and changes its own profile.

use super::{Auth, AuthError, Caller};
use crate::{
    config::Listing,
    domain::{Limit, Name, Page, User, UserCursor, Username},
    limits::AddressLimit,
    storage::{ProfileChange, Updated},
};
use std::net::IpAddr;

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
        address: Option<IpAddr>,
    ) -> Result<User, AuthError> {
        if update.username.is_some() {
            // The reply reveals whether an account has the username.
            self.check_address(AddressLimit::Create, address)?;
        }
        let username = update.username.map(|text| Username::parse(&text, &caller.user.email)).transpose();
        let username = username.map_err(|fault| AuthError::InvalidMember("/username", fault))?;
        let other = username.as_ref().filter(|username| username.key() != caller.user.username.key());
        other.map_or(Ok(()), |username| self.policy.check_username(username))?;
        let change = ProfileChange { username, first_name: update.first_name, last_name: update.last_name };
        match self.storage.update_profile(caller.user.id, &change).await? {
            Updated::User(user) => Ok(user),
            Updated::UsernameTaken => Err(AuthError::UsernameTaken),
            Updated::Gone => Err(AuthError::InvalidToken),
        }
    }
}
