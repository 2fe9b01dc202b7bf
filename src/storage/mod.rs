//! What is remembered, in SQLite or PostgreSQL. The only place that knows sqlx.
//!
//! Each SQL text stands once and speaks to both databases: `$1` placeholders, times as numbers, no `now()`, no
//! `ILIKE`, no `FOR UPDATE`. Expected outcomes are data (`Option`, `enum Created`); an error is a database that
//! could not do its work. Transactions lock the feed's counter before users, and users before sessions, so that they do
//! not wait for each other in a ring. (The purge may meet a deletion in one; PostgreSQL ends that, and one tries again.)

mod connect;
mod error;
mod health;
mod housekeeping;
mod migrations;
mod published_keys;
mod revocations;
mod revoked;
mod sessions;
mod sqlite;
mod user_row;
mod users;
mod work;

pub use connect::OpenError;
pub use error::StorageError;
pub use housekeeping::{Expiring, Purged};
pub use revocations::{Follower, Trust};
pub use sessions::{LiveSession, Rotation};
pub use users::{Created, ProfileChange, Updated, Who};

use futures_util::future::join_all;
use revoked::Revoked;
use sqlite::Connections;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use thread_local::ThreadLocal;
use work::Outages;

/// A handle on the database; cloning it is cheap.
#[derive(Clone)]
pub struct Storage {
    pool: Pool,
    /// The longest that one unit of work may take, waiting for a connection included.
    deadline: Duration,
    /// Whether the last unit of work of a kind found the database unable to do it.
    outages: Arc<Outages>,
    /// What has been taken back, as far as this replica knows.
    revoked: Arc<Revoked>,
}

#[derive(Clone)]
enum Pool {
    Postgres(Arc<PerThread>),
    /// SQLite has one writer. Ours is one connection, so that waiting for it is waiting for a connection, and the same
    /// time-out holds.
    Sqlite {
        read: Connections,
        write: Connections,
    },
}

/// A pool of PostgreSQL connections for each thread that asks.
///
/// Every HTTP worker has a runtime of its own, and a connection lives in the one that opened it. Shared among workers,
/// it would break in the hands of one when another, idle, ends first in an orderly stop.
struct PerThread {
    options: PgPoolOptions,
    connect: PgConnectOptions,
    pools: ThreadLocal<PgPool>,
    /// How many connections were opened so far.
    made: Arc<AtomicUsize>,
}

impl PerThread {
    fn new(options: PgPoolOptions, connect: PgConnectOptions) -> Self {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let options = options.after_connect(move |connection, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            Box::pin(connect::plan_by_index(connection))
        });
        Self { options, connect, pools: ThreadLocal::new(), made }
    }

    fn here(&self) -> &PgPool {
        self.pools.get_or(|| self.options.clone().connect_lazy_with(self.connect.clone()))
    }
}

impl Storage {
    /// This storage on a connection of its own, which stays the same until it breaks.
    fn on_one_connection(&self) -> Self {
        let pool = match &self.pool {
            Pool::Postgres(pools) => {
                let options = pools.options.clone().max_connections(1).max_lifetime(None).idle_timeout(None);
                Pool::Postgres(Arc::new(PerThread::new(options, pools.connect.clone())))
            }
            sqlite @ Pool::Sqlite { .. } => sqlite.clone(),
        };
        Self { pool, ..self.clone() }
    }

    /// How many connections were opened so far, where each may lead to another server than the one before: PostgreSQL
    /// behind a failover, but not SQLite's file.
    fn connections_made(&self) -> usize {
        match &self.pool {
            Pool::Postgres(pools) => pools.made.load(Ordering::Relaxed),
            Pool::Sqlite { .. } => 0,
        }
    }

    /// How many connections are in use, and how many wait for somebody.
    pub fn connections(&self) -> (usize, usize) {
        let of_pool = |size: u32, idle: usize| ((size as usize).saturating_sub(idle), idle);
        let sum = |one: (usize, usize), other: (usize, usize)| (one.0 + other.0, one.1 + other.1);
        match &self.pool {
            Pool::Postgres(pools) => {
                pools.pools.iter().map(|pool| of_pool(pool.size(), pool.num_idle())).fold((0, 0), sum)
            }
            Pool::Sqlite { read, write } => sum(read.count(), write.count()),
        }
    }

    /// Closes every connection, after those in use have been given back.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Postgres(pools) => join_all(pools.pools.iter().map(PgPool::close)).await.clear(),
            Pool::Sqlite { read, write } => {
                read.close().await;
                // The last connection to close folds the write-ahead log back into the database file.
                write.close().await;
            }
        }
    }
}
