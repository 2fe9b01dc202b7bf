//! The use cases, a file for each. They know neither HTTP nor SQL.

mod api_keys;
mod authenticate;
mod change_email;
mod change_password;
mod clients;
mod confirm_password;
mod deliver;
mod error;
mod grants;
mod guessing;
mod health;
mod introspect;
mod mail_proofs;
mod refresh;
mod register;
mod reset_password;
mod revocations;
mod rights;
mod sessions;
mod sign_in;
mod sign_out;
mod staff;
mod user_admin;
mod users;
mod verify_email;

pub use api_keys::{IssuedApiKey, NewApiKey};
pub use authenticate::{Caller, Presented};
pub use change_password::PasswordChange;
pub use clients::{ClientAdmin, ClientCredentials, NewClient};
pub use error::AuthError;
pub use grants::ClientGrant;
pub use health::Readiness;
pub use refresh::{RefreshKind, Refreshed};
pub use register::SignUp;
pub use reset_password::MailProof;
pub use rights::{Rights, Staff, Superuser};
pub use sign_in::{IssuedToken, SignIn, SignInSource, TokenPair};
pub use staff::Precondition;
pub use user_admin::{UserAdmin, UserUpdate};
pub use users::ProfileUpdate;

use crate::{
    config::{Listing, RateLimit, RegistrationMode, Settings},
    domain::{Invalid, Seconds, Timestamp, Username},
    keys::{KeyFault, KeyRing},
    limits::{AddressLimits, AddressRates, AttemptQueue, DelayPolicy},
    mail::Mailer,
    passwords::Passwords,
    storage::{AttemptKey, Storage},
    tokens::{Keys, Tokens},
};
use arc_swap::ArcSwap;
use guessing::UnwrittenFailures;
use revocations::{FeedReads, NewestPage};
use serde::Serialize;
use std::{sync::Arc, time::Duration};

/// Everything that the use cases need.
pub struct Auth {
    storage: Storage,
    user_admin: UserAdmin,
    passwords: Arc<Passwords>,
    tokens: Tokens,
    policy: Policy,
    /// `None` with `rate_limit.enabled = false`.
    limits: Option<Limits>,
    /// `None` without `mail.smtp_url`.
    mailer: Option<Mailer>,
    /// The scopes of all clients, as they were last read.
    client_scopes: ArcSwap<Vec<String>>,
    newest_page: NewestPage,
    feed_reads: FeedReads,
}

/// The limits on guessing; see [`guessing`].
struct Limits {
    addresses: AddressLimits,
    attempts: AttemptQueue<AttemptKey>,
    delay: DelayPolicy,
    unwritten: UnwrittenFailures,
    /// How long an attempt waits for its turn.
    queue_timeout: Duration,
}

impl Limits {
    fn new(settings: &Settings) -> Self {
        let RateLimit { signin_per_address, create_per_address, refresh_per_address, .. } = settings.rate_limit;
        Self {
            addresses: AddressLimits::new(AddressRates {
                sign_in: signin_per_address,
                create: create_per_address,
                refresh: refresh_per_address,
            }),
            attempts: AttemptQueue::default(),
            delay: DelayPolicy {
                free_failures: settings.rate_limit.account_failures,
                max_delay: Seconds(i64::try_from(settings.rate_limit.account_delay_max.as_secs()).unwrap_or(i64::MAX)),
            },
            unwritten: UnwrittenFailures::default(),
            queue_timeout: settings.passwords.queue_timeout,
        }
    }
}

/// What the settings allow.
#[derive(Debug, Clone)]
struct Policy {
    registration: RegistrationMode,
    listing: Listing,
    refresh_token_lifetime: Seconds,
    session_lifetime: Seconds,
    leeway: Seconds,
    rotates: bool,
    refresh_grace: Seconds,
    max_sessions: u32,
    max_api_keys: u32,
    /// The keys of the usernames that no user may choose.
    reserved_usernames: Vec<String>,
}

impl Policy {
    /// Refuses a username that is reserved (`users.reserved_usernames`).
    fn check_reserved(&self, username: &str) -> Result<(), AuthError> {
        let is_reserved = self.reserved_usernames.contains(&Username::key_of(username));
        if is_reserved {
            Err(AuthError::InvalidMember("/username", Invalid("is reserved; choose another one")))
        } else {
            Ok(())
        }
    }
}

impl Auth {
    pub fn new(
        settings: &Settings,
        storage: Storage,
        passwords: Passwords,
        tokens: Tokens,
        mailer: Option<Mailer>,
    ) -> Self {
        let passwords = Arc::new(passwords);
        let user_admin = UserAdmin::new(storage.clone(), Arc::clone(&passwords), settings);
        let policy = Policy {
            registration: settings.registration.mode,
            listing: settings.users.list,
            refresh_token_lifetime: settings.jwt.refresh_token_lifetime,
            session_lifetime: settings.jwt.session_lifetime,
            leeway: settings.jwt.leeway,
            rotates: settings.jwt.rotate_refresh_tokens,
            refresh_grace: settings.jwt.refresh_grace,
            max_sessions: settings.users.max_sessions,
            max_api_keys: settings.users.max_api_keys,
            reserved_usernames: settings.users.reserved_usernames.iter().map(|name| Username::key_of(name)).collect(),
        };
        let limits = settings.rate_limit.enabled.then(|| Limits::new(settings));
        Self {
            storage,
            user_admin,
            passwords,
            tokens,
            policy,
            limits,
            mailer,
            client_scopes: ArcSwap::default(),
            newest_page: NewestPage::default(),
            feed_reads: FeedReads::default(),
        }
    }

    /// Replaces all keys. Returns the `kid` of the active one.
    pub fn replace_keys(&self, keys: Keys, now: Timestamp) -> String {
        self.tokens.replace_keys(keys, now)
    }

    /// Replaces the keys of access tokens. Returns the `kid` of the active one after a change.
    ///
    /// # Errors
    /// No key is active, or one is also a key of refresh tokens.
    pub fn replace_access_keys(&self, access: KeyRing, now: Timestamp) -> Result<Option<String>, KeyFault> {
        self.tokens.replace_access_keys(access, now)
    }

    /// The public keys of access tokens, as a JWK set.
    pub fn key_set(&self, now: Timestamp) -> impl Serialize {
        self.tokens.key_set(now)
    }

    /// # Errors
    /// [`AuthError::NoMail`] without `mail.smtp_url`.
    fn mailer(&self) -> Result<&Mailer, AuthError> {
        self.mailer.as_ref().ok_or(AuthError::NoMail)
    }

    /// The use cases of operators, which need no token.
    pub fn user_admin(&self) -> &UserAdmin {
        &self.user_admin
    }
}
