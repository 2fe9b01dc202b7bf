//! What is remembered, in SQLite or PostgreSQL. The only place that knows sqlx.
//!
//! Each SQL text stands once and speaks to both databases: `$1` placeholders, times as numbers, no `now()`, no
//! `ILIKE`, no `FOR UPDATE`. Expected outcomes are data (`Option`, `enum Created`); an error is a database that
//! could not do its work. Transactions touch users before sessions, always, so that none waits for another in a ring.

mod connect;
mod error;
mod migrations;
mod sessions;
mod user_row;
mod users;

pub use connect::OpenError;
pub use error::StorageError;
pub use sessions::{LiveSession, Rotation};
pub use users::{Created, ProfileChange, Updated, Who};

use crate::domain::Timestamp;
use error::classify;
use futures_util::future::join_all;
use sqlx::{
    Database, PgPool, SqlitePool,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use thread_local::ThreadLocal;

/// A handle on the database; cloning it is cheap.
#[derive(Clone)]
pub struct Storage {
    pool: Pool,
    /// The longest that one unit of work may take, waiting for a connection included.
    deadline: Duration,
    /// Whether the last unit of work of a kind found the database unable to do it.
    outages: Arc<Outages>,
}

#[derive(Clone)]
enum Pool {
    Postgres(Arc<PerThread>),
    /// SQLite has one writer. Ours is a pool of one connection, so that waiting for it is waiting for the pool,
    /// and the same time-out holds.
    Sqlite {
        read: SqlitePool,
        write: SqlitePool,
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
}

impl PerThread {
    fn here(&self) -> &PgPool {
        self.pools.get_or(|| self.options.clone().connect_lazy_with(self.connect.clone()))
    }
}

/// A connection in use. Unless its work succeeded it is closed instead of given back: SQLite rolls back by itself when
/// the disk is full, and the driver would go on to believe in the transaction; and the pool would wait without limit
/// for an answer of a connection that was given up because it does not answer.
struct Held<D: Database>(Option<PoolConnection<D>>);

impl<D: Database> Held<D> {
    fn new(connection: PoolConnection<D>) -> Self {
        Self(Some(connection))
    }

    fn connection(&mut self) -> Result<&mut D::Connection, sqlx::Error> {
        self.0.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl<D: Database> Drop for Held<D> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Reading and writing fail apart: a full disk or a locked file lets readers pass.
#[derive(Default)]
struct Outages {
    read: AtomicBool,
    write: AtomicBool,
}

#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write,
}

/// Runs one unit of work on whichever database is configured, with the deadline, the retries and the errors of [`Storage::run`].
///
/// The body is handed a connection (`read`) or an open transaction (`write`), which is committed with the body's value
/// and rolled back when the body returns early. There is no writing outside a transaction: sqlx reads one row of an
/// `INSERT … RETURNING` and then resets the statement, which is when SQLite would commit it, and nobody would hear
/// that the disk is full.
macro_rules! on {
    (read $storage:expr, |$connection:ident| $body:expr) => {
        $storage.run($crate::storage::Kind::Read, async || match &$storage.pool {
            $crate::storage::Pool::Postgres(pools) => on!(@held pools.here(), |$connection| $body),
            $crate::storage::Pool::Sqlite { read, .. } => on!(@held read, |$connection| $body),
        })
    };
    (write $storage:expr, |$tx:ident| $body:expr) => {
        $storage.run($crate::storage::Kind::Write, async || match &$storage.pool {
            $crate::storage::Pool::Postgres(pools) => on!(@held pools.here(), |connection| {
                let mut $tx = sqlx::Connection::begin(connection).await?;
                let outcome = $body;
                $tx.commit().await?;
                Ok(outcome)
            }),
            $crate::storage::Pool::Sqlite { write, .. } => on!(@held write, |connection| {
                // Immediate: two writers that both began by reading would otherwise fail instead of waiting.
                let mut $tx = sqlx::Connection::begin_with(connection, sqlx::SqlSafeStr::into_sql_str("BEGIN IMMEDIATE")).await?;
                let outcome = $body;
                $tx.commit().await?;
                Ok(outcome)
            }),
        })
    };
    (@held $pool:expr, |$connection:ident| $body:expr) => {{
        let mut held = $crate::storage::Held::new($pool.acquire().await?);
        let outcome: Result<_, sqlx::Error> = async {
            let $connection = held.connection()?;
            $body
        }
        .await;
        if outcome.is_ok() {
            held.give_back();
        }
        outcome
    }};
}
use on;

impl Storage {
    /// Runs a unit of work as [`Storage::attempt`] does, and logs one line when the database can no longer do such
    /// work and one when it can again, however many requests fail in between.
    async fn run<T>(&self, kind: Kind, work: impl AsyncFn() -> Result<T, sqlx::Error>) -> Result<T, StorageError> {
        let outcome = self.attempt(work).await;
        let (is_out, doing) = match kind {
            Kind::Read => (&self.outages.read, "reading"),
            Kind::Write => (&self.outages.write, "writing"),
        };
        match &outcome {
            Err(StorageError::Unavailable(reason)) if !is_out.swap(true, Ordering::Relaxed) => {
                tracing::error!("the database is unavailable for {doing} ({reason}); answering 503 until it is back");
            }
            Ok(_) if is_out.load(Ordering::Relaxed) && is_out.swap(false, Ordering::Relaxed) => {
                tracing::info!("the database is back for {doing}");
            }
            _ => {}
        }
        outcome
    }

    /// Runs `work` within the deadline; what the database gave up for no fault of the request
    /// (40001 and 40P01 in PostgreSQL, busy in SQLite) is tried three times more.
    async fn attempt<T>(&self, work: impl AsyncFn() -> Result<T, sqlx::Error>) -> Result<T, StorageError> {
        let attempts = async {
            let mut tries_left = 3;
            loop {
                match work().await {
                    Err(error) if tries_left > 0 && error::is_worth_a_retry(&error) => tries_left -= 1,
                    other => break other.map_err(|error| classify(&error)),
                }
            }
        };
        tokio::time::timeout(self.deadline, attempts).await.unwrap_or_else(|_| {
            Err(StorageError::Unavailable(format!("no answer within {} s", self.deadline.as_secs_f32())))
        })
    }

    /// Asks the database for nothing.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ping(&self) -> Result<(), StorageError> {
        const SQL: &str = "SELECT 1";
        let ping = async || match &self.pool {
            Pool::Postgres(pools) => {
                on!(@held pools.here(), |connection| sqlx::query(SQL).execute(connection).await.map(drop))
            }
            Pool::Sqlite { read, .. } => {
                on!(@held read, |connection| sqlx::query(SQL).execute(connection).await.map(drop))
            }
        };
        // Not `run`: an answer to this says nothing about the tables.
        self.attempt(ping).await
    }

    /// The database's clock in unix seconds; `None` for SQLite, whose clock is this machine's.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn clock(&self) -> Result<Option<Timestamp>, StorageError> {
        const SQL: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)";
        let Pool::Postgres(pools) = &self.pool else { return Ok(None) };
        let seconds = self
            .attempt(async || on!(@held pools.here(), |connection| sqlx::query_scalar(SQL).fetch_one(connection).await))
            .await?;
        Ok(Some(Timestamp(seconds)))
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
