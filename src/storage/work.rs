//! One unit of work on the database: on a connection, within a deadline, tried again where that helps, and told of once
//! when it fails.

use super::{Storage, StorageError, error};
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::Instrument;

/// Runs one unit of work on whichever database is configured, with the deadline, the retries and the errors of [`Storage::run`].
///
/// The body is handed a connection (`read`) or an open transaction (`write`), which is committed with the body's value
/// and rolled back when the body returns early; `ask` is `read` for what says nothing about the tables, and logs nothing.
/// Whoever ends sessions or takes tokens back does it in `end`, a `write` that begins with the feed's counter and whose
/// body's value comes with the [`Ended`](super::revocations::Ended); the claim that these stand in is named first.
/// There is no writing outside a transaction: sqlx reads one row of an
/// `INSERT … RETURNING` and then resets the statement, which is when SQLite would commit it, and nobody would hear
/// that the disk is full.
macro_rules! on {
    (read $storage:expr, |$connection:ident| $body:expr) => {
        $storage.run($crate::storage::work::Kind::Read, async || on!(@reading $storage, |$connection| $body))
    };
    (ask $storage:expr, |$connection:ident| $body:expr) => {
        $storage.attempt(async || on!(@reading $storage, |$connection| $body))
    };
    (@reading $storage:expr, |$connection:ident| $body:expr) => {
        match &$storage.pool {
            $crate::storage::Pool::Postgres(pools) => on!(@held $crate::storage::work::Held::of(pools.here()).await, |$connection| $body),
            $crate::storage::Pool::Sqlite { read, .. } => on!(@held read.acquire().await, |$connection| $body),
        }
    };
    (write $storage:expr, |$tx:ident| $body:expr) => {
        $storage.run($crate::storage::work::Kind::Write, async || match &$storage.pool {
            $crate::storage::Pool::Postgres(pools) => on!(@held $crate::storage::work::Held::of(pools.here()).await, |connection| {
                let mut $tx = sqlx::Connection::begin(connection).await?;
                let outcome = $body;
                $tx.commit().await?;
                Ok(outcome)
            }),
            $crate::storage::Pool::Sqlite { write, .. } => on!(@held write.acquire().await, |connection| {
                // Immediate: two writers that both began by reading would otherwise fail instead of waiting.
                let mut $tx = sqlx::Connection::begin_with(connection, sqlx::SqlSafeStr::into_sql_str("BEGIN IMMEDIATE")).await?;
                let outcome = $body;
                $tx.commit().await?;
                Ok(outcome)
            }),
        })
    };
    (end $claim:literal $storage:expr, |$tx:ident| $body:expr) => {
        async {
            let (outcome, ended) = on!(write $storage, |$tx| {
                // Before users and sessions, always: two that end something wait for each other here and nowhere later.
                let seq: i64 = sqlx::query_scalar($crate::storage::revocations::NEXT_SEQ).fetch_one(&mut *$tx).await?;
                let (outcome, ended): (_, Vec<$crate::storage::revocations::Ended>) = $body;
                if ended.is_empty() {
                    sqlx::query($crate::storage::revocations::GIVE_BACK_SEQ).execute(&mut *$tx).await?;
                }
                for some in ended.chunks(1000) {
                    let mut rows = sqlx::QueryBuilder::new($crate::storage::revocations::RECORD);
                    rows.push_values(some, |mut row, ended| {
                        row.push_bind(seq).push_bind($claim).push_bind(ended.id).push_bind(ended.ended_at.0);
                    });
                    rows.build().execute(&mut *$tx).await?;
                }
                (outcome, ended)
            })
            .await?;
            // Committed: from now on this replica refuses them, before anybody is told so.
            $storage.revoked.add(&ended);
            Ok::<_, $crate::storage::StorageError>(outcome)
        }
    };
    (@held $held:expr, |$connection:ident| $body:expr) => {{
        let mut held = $held?;
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
pub(super) use on;

/// A connection to PostgreSQL in use. Unless its work succeeded it is closed instead of given back: the pool would wait
/// without limit for an answer of a connection that was given up because it does not answer.
pub(super) struct Held(Option<PoolConnection<Postgres>>);

impl Held {
    pub(super) async fn of(pool: &PgPool) -> Result<Self, sqlx::Error> {
        // Boxed: this future has 14 KiB, which every future of a request would have and move about.
        Ok(Self(Some(Box::pin(pool.acquire()).await?)))
    }

    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.0.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Reading and writing fail apart: a full disk or a locked file lets readers pass.
#[derive(Default)]
pub(super) struct Outages {
    read: AtomicBool,
    write: AtomicBool,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Read,
    Write,
}

impl Storage {
    /// Runs a unit of work as [`Storage::attempt`] does, and logs one line when the database can no longer do such
    /// work and one when it can again, however many requests fail in between.
    pub(super) async fn run<T>(
        &self,
        kind: Kind,
        work: impl AsyncFn() -> Result<T, sqlx::Error>,
    ) -> Result<T, StorageError> {
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
    pub(super) async fn attempt<T>(&self, work: impl AsyncFn() -> Result<T, sqlx::Error>) -> Result<T, StorageError> {
        let attempts = async {
            let mut tries_left = 3;
            loop {
                match work().await {
                    Err(error) if tries_left > 0 && error::is_worth_a_retry(&error) => tries_left -= 1,
                    other => break other.map_err(|error| error::classify(&error)),
                }
            }
        };
        let attempts = tokio::time::timeout(self.deadline, attempts);
        attempts.instrument(tracing::debug_span!("database")).await.unwrap_or_else(|_| {
            Err(StorageError::Unavailable(format!("no answer within {} s", self.deadline.as_secs_f32())))
        })
    }
}
