//! The types of the service, and the decisions that depend on them alone.
//!
//! No I/O, no clock, no randomness, no framework, so tests need no async. Every value of these types is valid: `parse`
//! is the only way to make one from outside input.

mod algorithm;
mod api_key;
mod audit;
mod client;
mod email;
mod feed;
mod mail;
mod name;
mod page;
mod password;
mod refresh_policy;
mod session;
mod text;
mod time;
mod token;
mod user;
mod username;

pub use algorithm::Algorithm;
pub use api_key::{ApiKey, ApiKeyLifetime, ApiKeySecret};
pub use audit::{Action, AuditContext, AuditEntry, Outcome};
pub use client::{Client, ClientId, Scopes};
pub use email::Email;
pub use feed::{FeedPage, FeedRow};
pub use mail::{MailCode, MailKind, QueuedMail};
pub use name::{DisplayName, Name};
pub use page::{Limit, Page, UserCursor};
pub use password::{Password, PasswordHash, PasswordRules, WeakPassword};
pub use refresh_policy::RefreshVerdict;
pub use session::{NewSession, Session, SessionId, SessionState};
pub(crate) use text::folded;
pub use time::{MAX_CLOCK_SKEW, Seconds, Timestamp};
pub use token::{AccessToken, RefreshToken, Subject, TokenId};
pub use user::{NewUser, Role, User, UserChange, UserId, UserIdField};
pub use username::{LoginName, Username};

/// Why an input value is invalid. Says what would be valid, and never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);
