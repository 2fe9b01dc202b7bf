//! Users, sessions, API keys, clients, revocations, the audit and the outbox, in SQLite or PostgreSQL. Only this module
//! uses sqlx.
//!
//! Each SQL text exists once and runs on both databases: `$1` placeholders, times as numbers, no `now()`, no `ILIKE`,
//! no `FOR UPDATE`. Expected outcomes are data (`Option`, `enum Created`); a [`StorageError`] means that the database
//! could not do its work.
//!
//! A transaction locks the feed's counter first, then users, then sessions and API keys, so that no two deadlock. (A
//! purge and the deletion of a user can deadlock: PostgreSQL ends one of them, and it is retried.)
//!
//! This is a unit of work:
//! ```ignore
//! self.write(|| async {
//!     let mut tx = self.begin().await?;
//!     let user: Option<UserRow> = tx.query(SQL).bind(id.0).fetch_optional().await?;
//!     tx.commit().await?;
//!     Ok(user)
//! })
//! .await
//! ```

mod api_keys;
mod audit;
mod clients;
mod error;
mod health;
mod migrations;
mod outbox;
mod pool;
mod purge;
mod query;
mod revocation;
mod sessions;
mod sign_in_batch;
mod sign_in_failures;
mod unit_of_work;
mod user_row;
mod users;

pub use api_keys::ApiKeyCreated;
pub use error::StorageError;
pub use migrations::NAME_CONFLICT;
pub use outbox::CODES_LAST;
pub use pool::{OpenError, check};
pub use purge::{Expiring, Purged};
pub use revocation::{Follower, Trust};
pub use sessions::{LiveSession, Rotation};
pub use sign_in_failures::{AttemptKey, FAILURES_LAST, Failures};
pub use user_row::Account;
pub use users::{Changed, Created, Credentials, SignOutScope, Snapshot, UserRef};

use crate::{config::Settings, domain::Seconds};
use pool::Pool;
use revocation::RevokedSet;
use sign_in_batch::PendingSignIn;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;
use unit_of_work::Outages;

/// A handle on the database; cloning it is cheap.
#[derive(Clone)]
pub struct Storage {
    pool: Pool,
    /// The longest that one unit of work may take, waiting for a connection included.
    deadline: Duration,
    outages: Arc<Outages>,
    /// The queue of sign-ins that share a transaction, in SQLite.
    sign_in_queue: Option<mpsc::UnboundedSender<PendingSignIn>>,
    /// Whether mails are sent.
    sends_mail: bool,
    /// How long entries of the audit are kept.
    audit_keep: Seconds,
    /// The revocations that this replica knows.
    revoked: Arc<RevokedSet>,
}

impl Storage {
    /// Opens the database. SQLite's file and its folder are created where they are missing, for their owner only;
    /// no connection to PostgreSQL is opened yet, because it may be down. `workers` threads share its connections.
    ///
    /// # Errors
    /// When SQLite's file cannot be opened or created.
    pub async fn open(settings: &Settings, workers: usize) -> Result<Self, OpenError> {
        let Settings { database, jwt, revocation, audit, mail, .. } = settings;
        let sends_mail = mail.smtp_url.is_some();
        let audit_keep = Seconds(i64::try_from(audit.keep.as_secs()).unwrap_or(i64::MAX));
        let pool = Pool::open(database, workers).await?;
        let revoked = Arc::new(RevokedSet::new(revocation.max_staleness, jwt));
        // Not in PostgreSQL, where the locked row of one user would delay the sign-ins of others.
        let queue = matches!(pool, Pool::Sqlite { .. }).then(mpsc::unbounded_channel);
        let (sign_in_queue, pending) = queue.unzip();
        // A unit of work may first wait for a connection.
        let deadline = database.acquire_timeout + Duration::from_secs(2);
        let storage = Self {
            pool,
            deadline,
            outages: Arc::new(Outages::default()),
            sign_in_queue,
            sends_mail,
            audit_keep,
            revoked,
        };
        if let Some(pending) = pending {
            tokio::spawn(sign_in_batch::run(storage.clone(), pending));
        }
        Ok(storage)
    }

    /// Whether this is the built-in SQLite, which migrates itself.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.pool, Pool::Sqlite { .. })
    }

    /// How many connections are in use, and how many are idle.
    pub fn connections(&self) -> (usize, usize) {
        self.pool.count()
    }

    /// Closes every connection, after those in use have been given back.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
