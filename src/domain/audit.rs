//! What the audit records: who did what to whom, when, from where and with which outcome.

use super::{Timestamp, UserId};
use std::net::IpAddr;
use strum::IntoStaticStr;

/// The user, the client address and the time of a request.
#[derive(Debug, Clone)]
pub struct AuditContext {
    pub at: Timestamp,
    /// `None` for a client without an access token, for a command and for a job.
    pub actor: Option<UserId>,
    pub address: Option<IpAddr>,
    pub request_id: Option<String>,
}

impl AuditContext {
    /// The same request, made by this user.
    #[must_use]
    pub fn by(&self, actor: UserId) -> Self {
        Self { actor: Some(actor), ..self.clone() }
    }
}

/// A command or a job at this time.
impl From<Timestamp> for AuditContext {
    fn from(at: Timestamp) -> Self {
        Self { at, actor: None, address: None, request_id: None }
    }
}

/// What was done or tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Action {
    Signin,
    /// A refresh token was used a second time, and its session has ended.
    RefreshReuse,
    /// One session has ended.
    Signout,
    /// Every session of a user has ended.
    SignoutAll,
    /// A user has changed the password, or tried to.
    PasswordChange,
    /// An operator or a superuser has set a password.
    PasswordSet,
    /// A user has set a password by a mail, or tried to.
    PasswordReset,
    EmailChange,
    EmailVerify,
    UserCreate,
    UserUpdate,
    UserActivate,
    UserDeactivate,
    UserDelete,
    /// A user has become staff or superuser, or is it no more.
    RightsChange,
    /// An operator has made or activated a signing key.
    KeysChange,
    /// A user has made an API key, or tried to.
    ApiKeyCreate,
    ApiKeyDelete,
    ClientCreate,
    ClientDelete,
    /// A client has revoked one access token.
    TokenRevoke,
}

impl Action {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Whether it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Outcome {
    Ok,
    Failed,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A row of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub id: i64,
    pub at: Timestamp,
    pub action: String,
    pub outcome: String,
    pub actor: Option<UserId>,
    pub subject: Option<UserId>,
    pub ip: Option<String>,
    /// How many failures of one minute this row stands for; 1 for everything else.
    pub count: i64,
    pub request_id: Option<String>,
}
