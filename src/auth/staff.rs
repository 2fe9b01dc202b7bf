//! Staff manage users, and superusers read the audit.

use super::{Auth, AuthError, Staff, Superuser, UserUpdate};
use crate::{
    domain::{AuditContext, AuditEntry, Limit, Page, Password, User, UserId, Username},
    limits::AddressLimit,
    storage::{SignOutScope, Snapshot, UserRef},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// Whether the client expects this version of a user; always true without a precondition.
pub type Precondition<'a> = &'a (dyn Fn(&str) -> bool + Sync);

impl Auth {
    /// One user.
    ///
    /// # Errors
    /// [`AuthError::NotFound`], or the database is unavailable.
    pub async fn user(&self, _: &Staff, id: UserId) -> Result<User, AuthError> {
        self.storage.find_user(&UserRef::Id(id)).await?.ok_or(AuthError::NotFound)
    }

    /// The version of a user: it differs whenever a member differs that an administrator or the user can change. Keyed,
    /// so that it reveals no claims.
    pub fn version(&self, user: &User) -> String {
        let User {
            email, username, first_name, last_name, is_active, is_staff, is_superuser, is_verified, claims, ..
        } = user;
        let names = (email.as_str(), username.as_str(), first_name.as_str(), last_name.as_str());
        let content = serde_json::json!([names, is_active, is_staff, is_superuser, is_verified, claims]);
        let mac = self.tokens.mac("signet: versions of users", content.to_string().as_bytes());
        URL_SAFE_NO_PAD.encode(&mac[..12])
    }

    /// Changes a user.
    ///
    /// # Errors
    /// The caller may not change this user or these members, the user does not exist, is another version than the client
    /// expects or the last active superuser, a member is invalid or taken, or the database is unavailable.
    pub async fn update_user(
        &self,
        staff: &Staff,
        id: UserId,
        update: UserUpdate,
        precondition: Precondition<'_>,
        context: &AuditContext,
    ) -> Result<User, AuthError> {
        if update.username.is_some() {
            // The reply reveals whether an account has the username.
            self.check_address(AddressLimit::Create, context.address)?;
        }
        let needs_superuser = update.is_staff.is_some() || update.is_superuser.is_some() || update.claims.is_some();
        let check = |seen: &Snapshot| {
            let (actor, user) = (Staff::may_change(seen)?, &seen.account.user);
            if needs_superuser && !actor.is_superuser {
                return Err(AuthError::Forbidden);
            }
            self.check_version(user, precondition)?;
            match &update.username {
                Some(text) if Username::key_of(text) != user.username.key() => self.policy.check_reserved(text),
                _ => Ok(()),
            }
        };
        self.user_admin.update(id, &update, &context.by(staff.user.id), check).await
    }

    /// Deletes a user with all sessions and API keys.
    ///
    /// # Errors
    /// As [`Self::update_user`].
    pub async fn delete_user(
        &self,
        staff: &Staff,
        id: UserId,
        precondition: Precondition<'_>,
        context: &AuditContext,
    ) -> Result<(), AuthError> {
        let check = |seen: &Snapshot| {
            Staff::may_change(seen)?;
            self.check_version(&seen.account.user, precondition)
        };
        self.user_admin.delete(id, &context.by(staff.user.id), check).await.map(drop)
    }

    /// Ends every session and API key of a user.
    ///
    /// # Errors
    /// The caller may not change this user, the user does not exist, or the database is unavailable.
    pub async fn end_sessions_of(&self, staff: &Staff, id: UserId, context: &AuditContext) -> Result<(), AuthError> {
        let check = |seen: &Snapshot| Staff::may_change(seen).map(drop);
        self.user_admin
            .sign_out(id, SignOutScope::SessionsAndApiKeys, &context.by(staff.user.id), check)
            .await
            .map(drop)
    }

    /// Sets the password of a user, and ends the user's sessions and API keys.
    ///
    /// # Errors
    /// The password is weak, the user does not exist, or the service is overloaded or unavailable.
    pub async fn set_password_of(
        &self,
        superuser: &Superuser,
        id: UserId,
        password: Password,
        context: &AuditContext,
    ) -> Result<(), AuthError> {
        let check = |seen: &Snapshot| {
            let is_superuser = seen.actor.as_ref().is_some_and(|actor| actor.is_superuser);
            is_superuser.then_some(()).ok_or(AuthError::Forbidden)
        };
        self.user_admin.set_password(id, password, &context.by(superuser.user.id), check).await.map(drop)
    }

    /// A page of the audit, the newest entry first: the entries before `before`, of all users or of one.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn audit(
        &self,
        _: &Superuser,
        user: Option<UserId>,
        before: i64,
        limit: Limit,
    ) -> Result<Page<AuditEntry>, AuthError> {
        self.user_admin.audit(user, before, limit).await
    }

    fn check_version(&self, user: &User, precondition: Precondition<'_>) -> Result<(), AuthError> {
        if precondition(&self.version(user)) { Ok(()) } else { Err(AuthError::PreconditionFailed) }
    }
}
