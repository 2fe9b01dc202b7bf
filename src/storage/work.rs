//! One unit of work on the database: on a connection, within a deadline, tried again where that helps, and told of once
//! when it fails.

use super::{Storage, StorageError};
use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::time::sleep;
use tracing::Instrument;

/// Runs one unit of work on whichever database is configured: within a deadline, with what the database gave up for no
/// fault of the request tried three times more, and with the errors of [`Storage::run`].
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
        $storage.run($crate::storage::work::Kind::Read, on!(@tried on!(@reading $storage, |$connection| $body)))
    };
    (ask $storage:expr, |$connection:ident| $body:expr) => {
        $storage.ask(on!(@tried on!(@reading $storage, |$connection| $body)))
    };
    (@reading $storage:expr, |$connection:ident| $body:expr) => {
        match &$storage.pool {
            $crate::storage::Pool::Postgres(connections) => on!(@held connections.acquire().await, |$connection| $body),
            $crate::storage::Pool::Sqlite { read, .. } => on!(@held read.acquire().await, |$connection| $body),
        }
    };
    (write $storage:expr, |$tx:ident| $body:expr) => {
        $storage.run($crate::storage::work::Kind::Write, on!(@tried match &$storage.pool {
            $crate::storage::Pool::Postgres(connections) => on!(@held connections.acquire().await, |connection| {
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
        }))
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
    // Here and not in a function that is handed the work: whether a future may go to another thread is known of a block,
    // but not of what an `AsyncFn` makes.
    (@tried $work:expr) => {
        async {
            let mut tries = $crate::storage::work::TRIES;
            loop {
                let outcome = async { $work }.await;
                tries -= 1;
                match outcome {
                    Err(error) if tries > 0 && $crate::storage::error::is_worth_a_retry(&error) => {
                        $crate::storage::work::pause_before_retry(tries).await;
                    }
                    outcome => break outcome.map_err(|error| $crate::storage::error::classify(&error)),
                }
            }
        }
    };
    (@held $held:expr, |$connection:ident| $body:expr) => {{
        let mut held = $held?;
        let outcome: Result<_, sqlx::Error> = async {
            let $connection = held.connection()?;
            $body
        }
        .await;
        match &outcome {
            Ok(_) => held.give_back(),
            Err(error) => held.close(error),
        }
        outcome
    }};
}
pub(super) use on;

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

/// How often a unit of work is tried while the database gives it up for no fault of the request (40001, 40P01 and 0A000
/// in PostgreSQL, busy in SQLite).
pub(super) const TRIES: u32 = 4;

/// Waits before a retry, with `tries` left: about 5, 20 and 80 ms, each shortened or lengthened at random by up to half,
/// so that transactions that met once do not meet again.
pub(super) async fn pause_before_retry(tries: u32) {
    let usual: u64 = 5_000 << (2 * (TRIES - 1).saturating_sub(tries));
    // Each `RandomState` has keys of its own.
    let jitter = RandomState::new().hash_one(tries) % usual;
    sleep(Duration::from_micros(usual / 2 + jitter)).await;
}

impl Storage {
    /// Waits for a unit of work as [`Storage::ask`] does, and logs one line when the database can no longer do such
    /// work and one when it can again, however many requests fail in between.
    pub(super) async fn run<T>(
        &self,
        kind: Kind,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let outcome = self.ask(work).await;
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

    /// Waits for `work` until the deadline.
    pub(super) async fn ask<T>(&self, work: impl Future<Output = Result<T, StorageError>>) -> Result<T, StorageError> {
        let work = tokio::time::timeout(self.deadline, work);
        work.instrument(tracing::debug_span!("database")).await.unwrap_or_else(|_| Err(self.no_answer()))
    }

    pub(super) fn no_answer(&self) -> StorageError {
        StorageError::Unavailable(format!("no answer within {} s", self.deadline.as_secs_f32()))
    }
}
