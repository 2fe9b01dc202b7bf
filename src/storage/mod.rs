//! What is remembered, in SQLite or PostgreSQL. The only place that knows sqlx.
//!
//! Each SQL text stands once and speaks to both databases: `$1` placeholders, times as numbers, no `now()`, no
//! `ILIKE`, no `FOR UPDATE`. Expected outcomes are data (`Option`, `enum Created`); an error is a database that
//! could not do its work. Transactions lock the feed's counter before users, and users before sessions, so that they do
//! not wait for each other in a ring. (The purge may meet a deletion in one; PostgreSQL ends that, and one tries again.)

mod beginnings;
mod connect;
mod error;
mod health;
mod housekeeping;
mod migrations;
mod postgres;
mod published_keys;
mod revocations;
mod revoked;
mod sessions;
mod sqlite;
mod user_row;
mod users;
mod work;

pub use connect::{OpenError, check};
pub use error::StorageError;
pub use housekeeping::{Expiring, Purged};
pub use revocations::{Follower, Trust};
pub use sessions::{LiveSession, Rotation};
pub use users::{Created, ProfileChange, Updated, Who};

use beginnings::Waiting;
use revoked::Revoked;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;
use work::Outages;

/// A handle on the database; cloning it is cheap.
#[derive(Clone)]
pub struct Storage {
    pool: Pool,
    /// The longest that one unit of work may take, waiting for a connection included.
    deadline: Duration,
    /// Whether the last unit of work of a kind found the database unable to do it.
    outages: Arc<Outages>,
    /// To where sessions are begun together, in SQLite.
    beginnings: Option<mpsc::UnboundedSender<Waiting>>,
    /// What has been taken back, as far as this replica knows.
    revoked: Arc<Revoked>,
}

#[derive(Clone)]
enum Pool {
    Postgres(postgres::Connections),
    /// SQLite has one writer. Ours is one connection, so that waiting for it is waiting for a connection, and the same
    /// time-out holds.
    Sqlite {
        read: sqlite::Connections,
        write: sqlite::Connections,
        file: sqlite::DatabaseFile,
    },
}

impl Storage {
    /// This storage on a connection of its own, which stays the same until it breaks.
    fn on_one_connection(&self) -> Self {
        let pool = match &self.pool {
            Pool::Postgres(connections) => Pool::Postgres(connections.only_one()),
            sqlite @ Pool::Sqlite { .. } => sqlite.clone(),
        };
        Self { pool, ..self.clone() }
    }

    /// How many connections were opened so far, where each may lead to another server than the one before: PostgreSQL
    /// behind a failover, but not SQLite's file.
    fn connections_made(&self) -> usize {
        match &self.pool {
            Pool::Postgres(connections) => connections.made(),
            Pool::Sqlite { .. } => 0,
        }
    }

    /// How many connections are in use, and how many wait for somebody.
    pub fn connections(&self) -> (usize, usize) {
        match &self.pool {
            Pool::Postgres(connections) => connections.count(),
            Pool::Sqlite { read, write, .. } => {
                let (read, write) = (read.count(), write.count());
                (read.0 + write.0, read.1 + write.1)
            }
        }
    }

    /// Closes every connection, after those in use have been given back.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Postgres(connections) => connections.close().await,
            Pool::Sqlite { read, write, .. } => {
                read.close().await;
                // The last connection to close folds the write-ahead log back into the database file.
                write.close().await;
            }
        }
    }
}
