//! Connections to PostgreSQL.
//!
//! A server in recovery is no server to work with: it answers what was true some time ago. After a failover the name in
//! `database.url` may lead to one for seconds, and a connection that only reads would stay there for ever. So each new
//! connection asks for that, and each has a greatest age.

use futures_util::future::join_all;
use sqlx::{
    Connection, Executor, PgConnection, PgPool, Postgres, Row,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use thread_local::ThreadLocal;
use tokio::time::{Instant, timeout};

/// The greatest age of a connection. What the name in `database.url` leads to by then is found at the latest then.
const MAX_AGE: Duration = Duration::from_mins(30);

/// The server is a standby, or was demoted to one.
#[derive(Debug, thiserror::Error)]
#[error("the server is in recovery: it is a standby")]
pub(super) struct InRecovery;

impl From<InRecovery> for sqlx::Error {
    fn from(fault: InRecovery) -> Self {
        Self::Configuration(Box::new(fault))
    }
}

/// A pool of connections for each thread that asks.
///
/// Every HTTP worker has a runtime of its own, and a connection lives in the one that opened it. Shared among workers,
/// it would break in the hands of one when another, idle, ends first in an orderly stop.
#[derive(Clone)]
pub(super) struct Connections(Arc<PerThread>);

struct PerThread {
    options: PgPoolOptions,
    connect: PgConnectOptions,
    pools: ThreadLocal<PgPool>,
    /// How many connections were opened so far.
    made: Arc<AtomicUsize>,
    /// Whether the last server that was reached is in recovery.
    is_in_recovery: Arc<AtomicBool>,
    breaks: Arc<Breaks>,
}

impl Connections {
    /// At most `max` at a time on each thread; who needs one waits for it for `patience`. None is opened yet.
    pub(super) fn new(connect: PgConnectOptions, max: u32, patience: Duration) -> Self {
        // A question before each use would double the round trips.
        let options = PgPoolOptions::new().max_connections(max).acquire_timeout(patience).test_before_acquire(false);
        // PgBouncer refuses a connection that asks for this at its start; no number here has a fraction.
        Self::with(options.max_lifetime(MAX_AGE), connect.extra_float_digits(None))
    }

    fn with(options: PgPoolOptions, connect: PgConnectOptions) -> Self {
        let (made, breaks) = (Arc::new(AtomicUsize::new(0)), Arc::new(Breaks::new()));
        let is_in_recovery = Arc::new(AtomicBool::new(false));
        let (counter, reached, suspicion) = (Arc::clone(&made), Arc::clone(&is_in_recovery), Arc::clone(&breaks));
        let options = options
            .after_connect(move |connection, _| {
                let (counter, reached) = (Arc::clone(&counter), Arc::clone(&reached));
                Box::pin(async move {
                    let is_in_recovery = greet(connection).await?;
                    reached.store(is_in_recovery, Ordering::Relaxed);
                    if is_in_recovery {
                        // The pool closes it and tries again, until whoever needs it has waited long enough.
                        return Err(InRecovery.into());
                    }
                    counter.fetch_add(1, Ordering::Relaxed);
                    plan_by_index(connection).await
                })
            })
            .before_acquire(move |connection, use_so_far| {
                let idle_for = use_so_far.idle_for;
                let is_outdated = suspicion.plans.is_within(use_so_far.age);
                let is_sure = idle_for <= Duration::from_secs(1) && !suspicion.connections.is_within(idle_for);
                Box::pin(async move {
                    if is_outdated {
                        return Ok(false);
                    }
                    // What does not answer at once is replaced within the same wait for a connection.
                    Ok(is_sure || matches!(timeout(Duration::from_millis(500), connection.ping()).await, Ok(Ok(()))))
                })
            });
        Self(Arc::new(PerThread { options, connect, pools: ThreadLocal::new(), made, is_in_recovery, breaks }))
    }

    /// One connection of its own, which stays the same until it breaks or is too old.
    pub(super) fn only_one(&self) -> Self {
        let options = self.0.options.clone().max_connections(1).idle_timeout(None);
        Self::with(options, self.0.connect.clone())
    }

    /// Takes a connection, for one unit of work.
    ///
    /// # Errors
    /// When none is free in time, or none can be opened.
    pub(super) async fn acquire(&self) -> Result<Lent, sqlx::Error> {
        let PerThread { options, connect, pools, is_in_recovery, breaks, .. } = &*self.0;
        let pool = pools.get_or(|| options.clone().connect_lazy_with(connect.clone()));
        // Boxed: this future has 14 KiB, which every future of a request would have and move about.
        match Box::pin(pool.acquire()).await {
            Ok(connection) => Ok(Lent { connection: Some(connection), breaks: Arc::clone(breaks) }),
            Err(sqlx::Error::PoolTimedOut) if is_in_recovery.load(Ordering::Relaxed) => Err(InRecovery.into()),
            Err(error) => Err(error),
        }
    }

    /// Opens one that is nobody else's, closed after its use.
    pub(super) async fn open(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.0.connect).await
    }

    /// How many were opened so far.
    pub(super) fn made(&self) -> usize {
        self.0.made.load(Ordering::Relaxed)
    }

    /// How many are in use, and how many wait for somebody.
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

/// A connection in use. Unless its work succeeded it is closed instead of given back: the pool would wait without limit
/// for an answer of a connection that was given up because it does not answer.
pub(super) struct Lent {
    connection: Option<PoolConnection<Postgres>>,
    breaks: Arc<Breaks>,
}

impl Lent {
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    pub(super) fn give_back(mut self) {
        drop(self.connection.take());
    }

    /// Closes it after its work failed.
    pub(super) fn close(self, error: &sqlx::Error) {
        if has_outdated_plan(error) {
            self.breaks.plans.note();
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.breaks.connections.note();
            drop(connection.detach());
        }
    }
}

/// Whether a statement was prepared before a column changed its type ("cached plan must not change result type"). Nothing
/// was executed; a new connection prepares it anew.
pub(super) fn has_outdated_plan(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("0A000"))
}

/// What one connection's failure says of the others.
struct Breaks {
    /// When a connection last failed in its work. Others may have broken with it, so one that has been idle since then is
    /// asked whether it lives before it is used again: a restart of PostgreSQL fails the requests in flight and no later
    /// ones.
    connections: LastTime,
    /// When a plan was last found to be outdated. Every connection that is older has the same one.
    plans: LastTime,
}

impl Breaks {
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

/// The first words on a new connection: whether the server is in recovery. The isolation level is the one that the
/// transactions here were written for, whatever the role's default is.
async fn greet(connection: &mut PgConnection) -> sqlx::Result<bool> {
    const SQL: &str =
        "SELECT pg_is_in_recovery() FROM set_config('default_transaction_isolation', 'read committed', false)";
    match sqlx::raw_sql(SQL).fetch_one(connection).await {
        Ok(row) => row.try_get(0),
        // Another engine that speaks PostgreSQL's protocol may know no recovery.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42883") => Ok(false),
        Err(error) => Err(error),
    }
}

/// Has PostgreSQL plan for what is asked here: a few rows, which an index finds.
///
/// While the statistics of a table are old (after an import, or between a vacuum and the next ANALYZE), it may think that
/// reading the whole table finds them sooner, or that compiling the query pays: a sign-in of 1 ms takes 3 s then.
async fn plan_by_index(connection: &mut PgConnection) -> sqlx::Result<()> {
    const SETTINGS: &str = "SET enable_seqscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0";
    match connection.execute(SETTINGS).await {
        // Another engine that speaks PostgreSQL's protocol has no such settings, and a planner of its own.
        Err(sqlx::Error::Database(_)) => Ok(()),
        done => done.map(drop),
    }
}
