//! The administration of users by the operator's commands and by `bootstrap`. It checks no rights.

use super::{AuthError, SignUp};
use crate::{
    config::Settings,
    domain::{
        AuditContext, AuditEntry, Email, Invalid, Limit, LoginName, Name, NewUser, Page, Password, PasswordRules, User,
        UserChange, UserCursor, UserId, Username,
    },
    passwords::Passwords,
    storage::{Changed, Created, SignOutScope, Snapshot, Storage, UserRef},
    tokens::is_registered,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The use cases that check no rights.
#[derive(Clone)]
pub struct UserAdmin {
    storage: Storage,
    passwords: Arc<Passwords>,
    rules: PasswordRules,
    /// The names of the settings `jwt.jti_claim` and `jwt.user_id_claim`.
    claim_names: [String; 2],
}

/// Changes to a user; `None` leaves a value as it is.
#[derive(Debug, Clone, Default)]
pub struct UserUpdate {
    pub email: Option<Email>,
    /// Not parsed yet: the rules for a username depend on the user's e-mail.
    pub username: Option<String>,
    pub first_name: Option<Name>,
    pub last_name: Option<Name>,
    pub is_active: Option<bool>,
    pub is_staff: Option<bool>,
    pub is_superuser: Option<bool>,
    pub is_verified: Option<bool>,
    pub claims: Option<Map<String, Value>>,
}

impl UserUpdate {
    /// The change that this is for `user`. A username that is the e-mail follows it, and a new e-mail is not verified.
    fn change(&self, user: &User) -> Result<UserChange, AuthError> {
        let email = self.email.as_ref().filter(|email| **email != user.email);
        let username = match &self.username {
            Some(text) => {
                let parsed = Username::parse(text, email.unwrap_or(&user.email));
                Some(parsed.map_err(|fault| AuthError::InvalidMember("/username", fault))?)
            }
            None => email.filter(|_| user.username.key() == user.email.key()).map(Username::of_email),
        };
        Ok(UserChange {
            email: email.cloned(),
            username,
            first_name: self.first_name.clone(),
            last_name: self.last_name.clone(),
            is_active: self.is_active,
            is_staff: self.is_staff,
            is_superuser: self.is_superuser,
            is_verified: self.is_verified.or(email.map(|_| false)),
            claims: self.claims.clone(),
            password_hash: None,
        })
    }
}

/// What a user's own claims may take in every access token, in bytes of JSON.
const MAX_CLAIMS: usize = 4096;

impl UserAdmin {
    pub fn new(storage: Storage, passwords: Arc<Passwords>, settings: &Settings) -> Self {
        let claim_names = [&settings.jwt.jti_claim, &settings.jwt.user_id_claim].map(|name| name.to_string());
        Self { storage, passwords, rules: settings.passwords.rules(), claim_names }
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
    pub async fn create(&self, sign_up: SignUp, is_superuser: bool, context: &AuditContext) -> Result<User, AuthError> {
        let SignUp { email, username, first_name, last_name, password } = sign_up;
        self.check_length(&password)?;
        let personal = [email.as_str(), username.as_str(), first_name.as_str(), last_name.as_str()].map(str::to_owned);
        let hash = self.passwords.hash_new(password, personal.to_vec()).await?;
        let user = NewUser { email, username, first_name, last_name, is_superuser };
        // Duplicates are not checked before hashing: the unique index decides, and an earlier check could be stale.
        match self.storage.create_user(&user, &hash, context).await? {
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
        // Digits are always an id: when that id does not exist, a username of the same digits must not be found
        // instead.
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

    /// Changes a user whom `check` allows. A deactivation ends the user's sessions and API keys; an activation restores
    /// none.
    ///
    /// # Errors
    /// `check` refuses, there is no such user, a member is invalid or taken, no active superuser would be left, or the
    /// database is unavailable.
    pub async fn update(
        &self,
        id: UserId,
        update: &UserUpdate,
        context: &AuditContext,
        check: impl Fn(&Snapshot) -> Result<(), AuthError>,
    ) -> Result<User, AuthError> {
        if let Some(claims) = &update.claims {
            self.check_claims(claims)?;
        }
        let decide = |seen: &Snapshot| {
            check(seen)?;
            update.change(&seen.account.user)
        };
        changed(self.storage.change_user(id, context, decide).await?)
    }

    /// Activates or deactivates a user.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub async fn set_active(&self, id: UserId, is_active: bool, context: &AuditContext) -> Result<User, AuthError> {
        let update = UserUpdate { is_active: Some(is_active), ..UserUpdate::default() };
        self.update(id, &update, context, |_| Ok(())).await
    }

    /// Checks the claims that a user's access tokens are to have.
    fn check_claims(&self, claims: &Map<String, Value>) -> Result<(), AuthError> {
        let has_meaning = |name: &String| is_registered(name) || self.claim_names.contains(name);
        let fault = if claims.keys().any(has_meaning) {
            Some("must not have a claim with another meaning, such as sub, exp, scope or roles")
        } else if serde_json::to_string(claims).is_ok_and(|text| text.len() > MAX_CLAIMS) {
            Some("must have at most 4 KiB")
        } else {
            None
        };
        fault.map_or(Ok(()), |fault| Err(AuthError::InvalidMember("/claims", Invalid(fault))))
    }

    /// Sets the password of a user whom `check` allows, and ends the user's sessions and API keys.
    ///
    /// # Errors
    /// There is no such user, the password is weak, or the service is overloaded or unavailable.
    pub async fn set_password(
        &self,
        id: UserId,
        password: Password,
        context: &AuditContext,
        check: impl Fn(&Snapshot) -> Result<(), AuthError>,
    ) -> Result<User, AuthError> {
        self.check_length(&password)?;
        let user = self.storage.find_user(&UserRef::Id(id)).await?.ok_or(AuthError::NotFound)?;
        let hash = self.passwords.hash_new(password, user.personal_words()).await?;
        let change = |seen: &Snapshot| {
            check(seen)?;
            Ok(UserChange { password_hash: Some(hash.clone()), ..UserChange::default() })
        };
        changed(self.storage.change_user(id, context, change).await?)
    }

    /// Clears the failed attempts of a user. `macs` are those of
    /// [`Tokens::failure_macs`](crate::tokens::Tokens::failure_macs).
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn unlock(&self, macs: &[[u8; 32]]) -> Result<(), AuthError> {
        for mac in macs {
            self.storage.clear_sign_in_failures(mac, None).await?;
        }
        Ok(())
    }

    /// Signs out a user whom `check` allows: ends every session, and every API key if `what` includes them.
    ///
    /// # Errors
    /// `check` refuses, there is no such user, or the database is unavailable.
    pub async fn sign_out(
        &self,
        id: UserId,
        what: SignOutScope,
        context: &AuditContext,
        check: impl Fn(&Snapshot) -> Result<(), AuthError>,
    ) -> Result<User, AuthError> {
        changed(self.storage.end_sessions(id, what, context, check).await?)
    }

    /// Deletes a user whom `check` allows, with all sessions and API keys. Returns the user that was deleted.
    ///
    /// # Errors
    /// `check` refuses, there is no such user, no active superuser would be left, or the database is unavailable.
    pub async fn delete(
        &self,
        id: UserId,
        context: &AuditContext,
        check: impl Fn(&Snapshot) -> Result<(), AuthError>,
    ) -> Result<User, AuthError> {
        changed(self.storage.delete_user(id, context, check).await?)
    }

    /// A page of the audit, the newest entry first: the entries before `before`, of all users or of one.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn audit(&self, user: Option<UserId>, before: i64, limit: Limit) -> Result<Page<AuditEntry>, AuthError> {
        Ok(self.storage.list_audit(user, before, limit).await?)
    }

    /// Creates a superuser if there is none. If a user has this e-mail, promotes that user and sets this password.
    ///
    /// # Errors
    /// The password is weak, or the service is overloaded or unavailable.
    pub async fn bootstrap(
        &self,
        email: &Email,
        password: &SecretString,
        context: &AuditContext,
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
        match self.create(sign_up, true, context).await {
            Ok(user) => Ok(Some(user)),
            Err(AuthError::EmailTaken) => {
                let hash = self.passwords.hash_new(password, vec![email.as_str().to_owned()]).await?;
                Ok(self.storage.promote(email, &hash, context).await?)
            }
            Err(error) => Err(error),
        }
    }
}

/// The user after a change, or the reason why there is none.
fn changed(outcome: Changed<AuthError>) -> Result<User, AuthError> {
    match outcome {
        Changed::User(user) => Ok(user),
        Changed::NotFound => Err(AuthError::NotFound),
        Changed::Refused(refusal) => Err(refusal),
        Changed::EmailTaken => Err(AuthError::EmailTaken),
        Changed::UsernameTaken => Err(AuthError::UsernameTaken),
        Changed::LastSuperuser => Err(AuthError::LastSuperuser),
    }
}
