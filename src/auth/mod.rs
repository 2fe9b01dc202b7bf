//! The use cases, one file for each sentence that a product owner says. They know what may happen, not how it travels.

mod administer;
mod authenticate;
mod error;
mod refresh;
mod register;
mod sign_in;
mod sign_out;
mod users;

pub use administer::Operator;
pub use authenticate::{Caller, Presented};
pub use error::AuthError;
pub use register::SignUp;
pub use sign_in::{Client, SignIn};
pub use users::ProfileUpdate;

use crate::{
    config::{Listing, RegistrationMode, Settings},
    crypto::{Passwords, Tokens},
    domain::{PasswordRules, Seconds},
    storage::Storage,
};

/// Everything that a use case needs, and nothing of HTTP.
pub struct Auth {
    storage: Storage,
    passwords: Passwords,
    tokens: Tokens,
    policy: Policy,
}

/// What the settings allow.
#[derive(Debug, Clone)]
struct Policy {
    password: PasswordRules,
    registration: RegistrationMode,
    listing: Listing,
    refresh_token_lifetime: Seconds,
    session_lifetime: Seconds,
}

impl Auth {
    pub fn new(settings: &Settings, storage: Storage, passwords: Passwords, tokens: Tokens) -> Self {
        let policy = Policy {
            password: settings.passwords.rules(),
            registration: settings.registration.mode,
            listing: settings.users.list,
            refresh_token_lifetime: settings.jwt.refresh_token_lifetime,
            session_lifetime: settings.jwt.session_lifetime,
        };
        Self { storage, passwords, tokens, policy }
    }
}
