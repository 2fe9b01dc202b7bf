//! Connections to PostgreSQL.
//!
//! A server in recovery (a standby) may return stale data. For some seconds after a failover, the host name in
//! `database.url` may lead to a standby, and a connection that only reads would stay there. So every new connection
//! asks whether the server is in recovery, and every connection has a maximum age.

use super::{OpenError, Pool};
use crate::config::Database;
use futures_util::future::join_all;
use sqlx::{
    Connection, Executor, PgConnection, PgPool, Postgres, Row,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use thread_local::ThreadLocal;
use tokio::time::{Instant, timeout};

/// The maximum age of a connection: after a failover that closed no connection, each leads to the new server by then.
const MAX_AGE: Duration = Duration::from_mins(30);

/// The server is a standby, or was demoted to one.
#[derive(Debug, thiserror::Error)]
#[error("the server is in recovery: it is a standby")]
pub(in crate::storage) struct InRecovery;

impl From<InRecovery> for sqlx::Error {
    fn from(fault: InRecovery) -> Self {
        Self::Configuration(Box::new(fault))
    }
}

/// Prepares connections. None is opened yet, because the server may be down.
pub(super) fn open(settings: &Database, workers: usize) -> Result<Pool, OpenError> {
    let connect = connect_options(settings)?;
    let workers = u32::try_from(workers).unwrap_or(u32::MAX);
    let max = settings.max_connections.div_ceil(workers).max(1);
    Ok(Pool::Postgres(Connections::new(connect, max, settings.acquire_timeout)))
}

pub(super) fn connect_options(settings: &Database) -> Result<PgConnectOptions, OpenError> {
    let url = settings.url.expose_secret();
    let options = PgConnectOptions::from_str(url).map_err(|_| OpenError::Url)?;
    Ok(if url.contains("application_name=") { options } else { options.application_name("signet") })
}

/// A pool of connections for each thread.
///
/// Every HTTP worker has its own runtime, and a connection lives in the runtime that opened it. If workers shared a
/// connection, it would break in use when the worker that opened it stops first.
#[derive(Clone)]
pub(in crate::storage) struct Connections(Arc<PerThread>);

struct PerThread {
    options: PgPoolOptions,
    connect: PgConnectOptions,
    pools: ThreadLocal<PgPool>,
    /// How many connections have been opened.
    opened: Arc<AtomicUsize>,
    /// Whether the last server that answered is in recovery.
    is_in_recovery: Arc<AtomicBool>,
    last_failures: Arc<LastFailures>,
}

impl Connections {
    /// At most `max` at a time on each thread; [`Self::acquire`] waits for one for `acquire_timeout`. None is opened yet.
    pub(super) fn new(connect: PgConnectOptions, max: u32, acquire_timeout: Duration) -> Self {
        // A ping before each use would double the round trips.
        let options =
            PgPoolOptions::new().max_connections(max).acquire_timeout(acquire_timeout).test_before_acquire(false);
        // PgBouncer refuses this start-up parameter; no number in the tables has a fraction.
        Self::with(options.max_lifetime(MAX_AGE), connect.extra_float_digits(None))
    }

    fn with(options: PgPoolOptions, connect: PgConnectOptions) -> Self {
        let (opened, last_failures) = (Arc::new(AtomicUsize::new(0)), Arc::new(LastFailures::new()));
        let is_in_recovery = Arc::new(AtomicBool::new(false));
        let (counter, reached, failures) =
            (Arc::clone(&opened), Arc::clone(&is_in_recovery), Arc::clone(&last_failures));
        let options = options
            .after_connect(move |connection, _| {
                let (counter, reached) = (Arc::clone(&counter), Arc::clone(&reached));
                Box::pin(async move {
                    let is_in_recovery = prepare_connection(connection).await?;
                    reached.store(is_in_recovery, Ordering::Relaxed);
                    if is_in_recovery {
                        // The pool closes it and tries again until `acquire` times out.
                        return Err(InRecovery.into());
                    }
                    counter.fetch_add(1, Ordering::Relaxed);
                    plan_by_index(connection).await
                })
            })
            .before_acquire(move |connection, use_so_far| {
                let idle_for = use_so_far.idle_for;
                let is_outdated = failures.plans.is_within(use_so_far.age);
                let is_surely_alive = idle_for <= Duration::from_secs(1) && !failures.connections.is_within(idle_for);
                Box::pin(async move {
                    if is_outdated {
                        return Ok(false);
                    }
                    // A connection that does not answer at once is replaced within the same `acquire`.
                    Ok(is_surely_alive
                        || matches!(timeout(Duration::from_millis(500), connection.ping()).await, Ok(Ok(()))))
                })
            });
        Self(Arc::new(PerThread { options, connect, pools: ThreadLocal::new(), opened, is_in_recovery, last_failures }))
    }

    /// A pool of one connection, which stays the same until it breaks or is too old.
    pub(super) fn only_one(&self) -> Self {
        let options = self.0.options.clone().max_connections(1).idle_timeout(None);
        Self::with(options, self.0.connect.clone())
    }

    /// Takes a connection, for one unit of work.
    ///
    /// # Errors
    /// When none is free in time, or none can be opened.
    pub(in crate::storage) async fn acquire(&self) -> Result<PooledConnection, sqlx::Error> {
        let PerThread { options, connect, pools, is_in_recovery, last_failures, .. } = &*self.0;
        let pool = pools.get_or(|| options.clone().connect_lazy_with(connect.clone()));
        // Boxed: this future takes 14 KiB, and so would the future of every request.
        match Box::pin(pool.acquire()).await {
            Ok(connection) => {
                Ok(PooledConnection { connection: Some(connection), last_failures: Arc::clone(last_failures) })
            }
            Err(sqlx::Error::PoolTimedOut) if is_in_recovery.load(Ordering::Relaxed) => Err(InRecovery.into()),
            Err(error) => Err(error),
        }
    }

    /// Opens a connection outside the pools. The caller closes it.
    pub(in crate::storage) async fn open(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.0.connect).await
    }

    /// How many connections have been opened.
    pub(super) fn opened(&self) -> usize {
        self.0.opened.load(Ordering::Relaxed)
    }

    /// How many are in use, and how many are idle.
    pub(super) fn count(&self) -> (usize, usize) {
        let (all, idle) =
            self.0.pools.iter().fold((0, 0), |(all, idle), pool| (all + pool.size() as usize, idle + pool.num_idle()));
        (all.saturating_sub(idle), idle)
    }

    /// Closes every connection, after those in use have been given back.
    pub(super) async fn close(&self) {
        join_all(self.0.pools.iter().map(PgPool::close)).await;
    }
}

/// A connection in use. Dropping it closes it; [`Self::give_back`] is for a connection whose work succeeded. (After a
/// cancelled statement the pool would wait without limit for its answer.)
pub(in crate::storage) struct PooledConnection {
    connection: Option<PoolConnection<Postgres>>,
    last_failures: Arc<LastFailures>,
}

impl PooledConnection {
    pub(in crate::storage) fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    pub(in crate::storage) fn give_back(&mut self) {
        drop(self.connection.take());
    }

    /// Records a failed statement which shows that other connections may be unusable.
    pub(in crate::storage) fn note_failure(&self, error: &sqlx::Error) {
        if has_outdated_plan(error) {
            self.last_failures.plans.note();
        }
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.last_failures.connections.note();
            drop(connection.detach());
        }
    }
}

/// Whether a statement was prepared before a column changed its type ("cached plan must not change result type"). Nothing
/// was executed; a new connection prepares the statement again.
pub(in crate::storage) fn has_outdated_plan(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("0A000"))
}

/// The times of the last failures, which show which other connections may be unusable.
struct LastFailures {
    /// When a connection last failed. Others may have broken with it, so a connection that has been idle since then is
    /// pinged before it is used again. So a restart of PostgreSQL fails the requests in flight but no later ones.
    connections: LastTime,
    /// When a plan was last found to be outdated. Every older connection has the same plan.
    plans: LastTime,
}

impl LastFailures {
    fn new() -> Self {
        Self { connections: LastTime::new(), plans: LastTime::new() }
    }
}

/// When something last happened, in milliseconds since `since`; 0 for never.
struct LastTime {
    since: Instant,
    at: AtomicU64,
}

impl LastTime {
    fn new() -> Self {
        Self { since: Instant::now(), at: AtomicU64::new(0) }
    }

    fn note(&self) {
        self.at.fetch_max(self.now(), Ordering::Relaxed);
    }

    /// Whether it was within the last `length`.
    fn is_within(&self, length: Duration) -> bool {
        match self.at.load(Ordering::Relaxed) {
            0 => false,
            at => at.saturating_add(millis(length)) >= self.now(),
        }
    }

    fn now(&self) -> u64 {
        millis(self.since.elapsed()).max(1)
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// Sets the isolation level that the transactions of this service need, whatever the role's default is, and asks whether
/// the server is in recovery.
async fn prepare_connection(connection: &mut PgConnection) -> sqlx::Result<bool> {
    const SQL: &str =
        "SELECT pg_is_in_recovery() FROM set_config('default_transaction_isolation', 'read committed', false)";
    sqlx::raw_sql(SQL).fetch_one(connection).await?.try_get(0)
}

/// Makes PostgreSQL use indexes: every query of this service reads a few rows, which an index finds.
///
/// While the statistics of a table are old (after an import, or between a vacuum and the next ANALYZE), the planner may
/// choose to read the whole table or to compile the query: a sign-in of 1 ms takes 3 s then.
async fn plan_by_index(connection: &mut PgConnection) -> sqlx::Result<()> {
    const SETTINGS: &str = "SET enable_seqscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0";
    match connection.execute(SETTINGS).await {
        // Another engine that speaks PostgreSQL's protocol lacks these settings and has its own planner.
        Err(sqlx::Error::Database(_)) => Ok(()),
        done => done.map(drop),
    }
}
