//! One unit of work on the database: one read or one transaction, within a deadline, with retries, and with one log line
//! when the database fails.

use super::{
    Storage, StorageError,
    error::{classify, is_worth_a_retry},
    pool::Pool,
    query::{Connection, Query, Row, Tx},
};
use crate::telemetry::LogOnce;
use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tracing::Instrument;

/// Whether the database failed the last read, and the last write. They fail independently: with a full disk or a locked
/// file the database still answers reads.
#[derive(Default)]
pub(super) struct Outages {
    read: LogOnce,
    write: LogOnce,
}

/// How many times a unit of work is tried if the database aborts it although the request is valid (40001, 40P01 and
/// 0A000 in PostgreSQL, busy in SQLite).
const TRIES: u32 = 4;

// `work` is a closure that returns an `async` block, not an `AsyncFn`: the compiler cannot prove that the future of a
// generic `AsyncFn` is `Send`, which `tokio::spawn` requires. It runs once for each try.
impl Storage {
    /// Runs a unit of work that reads.
    pub(super) async fn read<T, F>(&self, work: impl Fn() -> F) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let outcome = self.run(work).await;
        note_outage(&self.outages.read, "reading", &outcome);
        outcome
    }

    /// Runs a unit of work and logs nothing: for a health check or a start, whose caller reports the failure.
    pub(super) async fn run<T, F>(&self, work: impl Fn() -> F) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let work = timeout(self.deadline, with_retries(work)).instrument(tracing::debug_span!("database"));
        work.await.unwrap_or_else(|_| Err(self.timed_out()))
    }

    /// Runs a unit of work that writes, in a transaction that it begins and commits.
    pub(super) async fn write<T, F>(&self, work: impl Fn() -> F) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let outcome = self.run(work).await;
        note_outage(&self.outages.write, "writing", &outcome);
        outcome
    }

    /// Reads the first row that a statement returns, if there is one.
    pub(super) async fn read_one<R: Row>(
        &self,
        sql: &'static str,
        bind: impl Fn(Query<'_>) -> Query<'_>,
    ) -> Result<Option<R>, StorageError> {
        self.read(|| async { bind(self.connection().await?.query(sql)).fetch_optional().await }).await
    }

    /// Reads all rows that a statement returns.
    pub(super) async fn read_all<R: Row>(
        &self,
        sql: &'static str,
        bind: impl Fn(Query<'_>) -> Query<'_>,
    ) -> Result<Vec<R>, StorageError> {
        self.read(|| async { bind(self.connection().await?.query(sql)).fetch_all().await }).await
    }

    /// A connection for a read.
    pub(super) async fn connection(&self) -> Result<Connection, sqlx::Error> {
        match &self.pool {
            Pool::Postgres(connections) => connections.acquire().await.map(Connection::from),
            Pool::Sqlite { read, .. } => read.acquire().await.map(Connection::from),
        }
    }

    /// A transaction. One that ends sessions or revokes tokens is an [`Ending`](super::revocation::Ending) instead.
    pub(super) async fn begin(&self) -> Result<Tx, sqlx::Error> {
        let connection = match &self.pool {
            Pool::Postgres(connections) => connections.acquire().await.map(Connection::from),
            Pool::Sqlite { write, .. } => write.acquire().await.map(Connection::from),
        };
        connection?.begin().await
    }

    pub(super) fn timed_out(&self) -> StorageError {
        StorageError::Unavailable(format!("no answer within {} s", self.deadline.as_secs_f32()))
    }
}

async fn with_retries<T, F>(work: impl Fn() -> F) -> Result<T, StorageError>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let mut tries = TRIES;
    loop {
        let outcome = work().await;
        tries -= 1;
        match outcome {
            Err(error) if tries > 0 && is_worth_a_retry(&error) => pause_before_retry(tries).await,
            outcome => return outcome.map_err(|error| classify(&error)),
        }
    }
}

/// Waits before a retry, with `tries` left: about 5, 20 and 80 ms, each shortened or lengthened at random by up to half,
/// so that transactions that collided once do not collide again.
async fn pause_before_retry(tries: u32) {
    let usual: u64 = 5_000 << (2 * (TRIES - 1).saturating_sub(tries));
    // Each `RandomState` has its own random keys.
    let jitter = RandomState::new().hash_one(tries) % usual;
    sleep(Duration::from_micros(usual / 2 + jitter)).await;
}

/// Logs one line when the database becomes unavailable and one when it is back, however many requests fail in between.
fn note_outage<T>(log: &LogOnce, doing: &str, outcome: &Result<T, StorageError>) {
    match outcome {
        Err(StorageError::Unavailable(reason)) if log.fails() => {
            tracing::error!("the database is unavailable for {doing} ({reason}); answering 503 until it is back");
        }
        Ok(_) if log.recovers() => tracing::info!("the database is back for {doing}"),
        _ => {}
    }
}
