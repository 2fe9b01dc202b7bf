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
pub use users::{Created, ProfileChange, Updated, Who};

use error::classify;
use sqlx::{PgPool, SqlitePool};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A handle on the database; cloning it is cheap.
#[derive(Clone)]
pub struct Storage {
    pool: Pool,
    /// The longest that one unit of work may take, waiting for a connection included.
    deadline: Duration,
    /// Whether the last thing we heard of the database is that it is away.
    away: Arc<AtomicBool>,
}

#[derive(Clone)]
enum Pool {
    Postgres(PgPool),
    /// SQLite has one writer. Ours is a pool of one connection, so that waiting for it is waiting for the pool,
    /// and the same time-out holds.
    Sqlite {
        read: SqlitePool,
        write: SqlitePool,
    },
}

/// Runs one unit of work on whichever database is configured, with the deadline, the retries and the errors of [`Storage::run`].
///
/// `read` and `write` hand the body a pool. `transaction` hands it an open transaction, which is committed with the
/// body's value, and rolled back when the body returns early.
macro_rules! on {
    (read $storage:expr, |$pool:ident| $body:expr) => {
        $storage.run(async || match &$storage.pool {
            $crate::storage::Pool::Postgres($pool) => $body,
            $crate::storage::Pool::Sqlite { read: $pool, .. } => $body,
        })
    };
    (write $storage:expr, |$pool:ident| $body:expr) => {
        $storage.run(async || match &$storage.pool {
            $crate::storage::Pool::Postgres($pool) => $body,
            $crate::storage::Pool::Sqlite { write: $pool, .. } => $body,
        })
    };
    (transaction $storage:expr, |$tx:ident| $body:expr) => {
        $storage.run(async || match &$storage.pool {
            $crate::storage::Pool::Postgres(pool) => {
                let mut $tx = pool.begin().await?;
                let outcome = $body;
                $tx.commit().await?;
                Ok(outcome)
            }
            $crate::storage::Pool::Sqlite { write, .. } => {
                // Immediate: two writers that both began by reading would otherwise fail instead of waiting.
                let mut $tx = write.begin_with("BEGIN IMMEDIATE").await?;
                let outcome = $body;
                $tx.commit().await?;
                Ok(outcome)
            }
        })
    };
}
use on;

impl Storage {
    /// Runs `work` within the deadline; what the database gave up for no fault of the request
    /// (40001 and 40P01 in PostgreSQL, busy in SQLite) is tried three times more.
    async fn run<T>(&self, work: impl AsyncFn() -> Result<T, sqlx::Error>) -> Result<T, StorageError> {
        let attempts = async {
            let mut tries_left = 3;
            loop {
                match work().await {
                    Err(error) if tries_left > 0 && error::is_worth_a_retry(&error) => tries_left -= 1,
                    other => break other.map_err(|error| classify(&error)),
                }
            }
        };
        let outcome = tokio::time::timeout(self.deadline, attempts).await.unwrap_or_else(|_| {
            Err(StorageError::Unavailable(format!("no answer within {} s", self.deadline.as_secs_f32())))
        });
        if let Err(StorageError::Unavailable(reason)) = &outcome {
            self.notice_outage(reason);
        }
        outcome
    }

    /// Logs one line when the database goes away and one when it is back, however many requests fail in between.
    fn notice_outage(&self, reason: &str) {
        if self.away.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!("the database is unavailable ({reason}); answering 503 until it is back");
        let storage = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                if storage.can_work().await {
                    break;
                }
            }
            storage.away.store(false, Ordering::Relaxed);
            tracing::info!("the database is back");
        });
    }

    /// Whether the database answers, and takes writes where somebody else may hold its lock. Notices nothing.
    async fn can_work(&self) -> bool {
        let answer = async {
            match &self.pool {
                Pool::Postgres(pool) => sqlx::query("SELECT 1").execute(pool).await.map(drop),
                Pool::Sqlite { write, .. } => write.begin_with("BEGIN IMMEDIATE").await?.rollback().await,
            }
        };
        matches!(tokio::time::timeout(self.deadline, answer).await, Ok(Ok(())))
    }

    /// Asks the database for nothing.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ping(&self) -> Result<(), StorageError> {
        on!(read self, |pool| sqlx::query("SELECT 1").execute(pool).await.map(drop)).await
    }

    /// The database's clock in unix seconds; `None` for SQLite, whose clock is this machine's.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn clock(&self) -> Result<Option<crate::domain::Timestamp>, StorageError> {
        const SQL: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)";
        let Pool::Postgres(pool) = &self.pool else { return Ok(None) };
        let seconds = self.run(async || sqlx::query_scalar(SQL).fetch_one(pool).await).await?;
        Ok(Some(crate::domain::Timestamp(seconds)))
    }

    /// Closes every connection, after those in use have been given back.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Postgres(pool) => pool.close().await,
            Pool::Sqlite { read, write } => {
                read.close().await;
                // The last connection to close folds the write-ahead log back into the database file.
                write.close().await;
            }
        }
    }
}
