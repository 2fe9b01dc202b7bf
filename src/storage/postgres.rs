//! Connections to PostgreSQL.

use futures_util::future::join_all;
use sqlx::{
    Connection, Executor, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use thread_local::ThreadLocal;
use tokio::time::{Instant, timeout};

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
    last_break: Arc<LastBreak>,
}

impl Connections {
    /// At most `max` at a time on each thread; who needs one waits for it for `patience`. None is opened yet.
    pub(super) fn new(connect: PgConnectOptions, max: u32, patience: Duration) -> Self {
        // A question before each use would double the round trips.
        let options = PgPoolOptions::new().max_connections(max).acquire_timeout(patience).test_before_acquire(false);
        Self::with(options, connect)
    }

    fn with(options: PgPoolOptions, connect: PgConnectOptions) -> Self {
        let (made, last_break) = (Arc::new(AtomicUsize::new(0)), Arc::new(LastBreak::new()));
        let (counter, suspicion) = (Arc::clone(&made), Arc::clone(&last_break));
        let options = options
            .after_connect(move |connection, _| {
                counter.fetch_add(1, Ordering::Relaxed);
                Box::pin(plan_by_index(connection))
            })
            .before_acquire(move |connection, use_so_far| {
                let idle_for = use_so_far.idle_for;
                let is_sure = idle_for <= Duration::from_secs(1) && !suspicion.is_within(idle_for);
                Box::pin(async move {
                    // What does not answer at once is replaced within the same wait for a connection.
                    Ok(is_sure || matches!(timeout(Duration::from_millis(500), connection.ping()).await, Ok(Ok(()))))
                })
            });
        Self(Arc::new(PerThread { options, connect, pools: ThreadLocal::new(), made, last_break }))
    }

    /// One connection of its own, which stays the same until it breaks.
    pub(super) fn only_one(&self) -> Self {
        let options = self.0.options.clone().max_connections(1).max_lifetime(None).idle_timeout(None);
        Self::with(options, self.0.connect.clone())
    }

    /// Takes a connection, for one unit of work.
    ///
    /// # Errors
    /// When none is free in time, or none can be opened.
    pub(super) async fn acquire(&self) -> Result<Lent, sqlx::Error> {
        let PerThread { options, connect, pools, last_break, .. } = &*self.0;
        let pool = pools.get_or(|| options.clone().connect_lazy_with(connect.clone()));
        // Boxed: this future has 14 KiB, which every future of a request would have and move about.
        let connection = Box::pin(pool.acquire()).await?;
        Ok(Lent { connection: Some(connection), last_break: Arc::clone(last_break) })
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
    last_break: Arc<LastBreak>,
}

impl Lent {
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    pub(super) fn give_back(mut self) {
        drop(self.connection.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.last_break.note();
            drop(connection.detach());
        }
    }
}

/// When a connection last failed in its work, in milliseconds since `since`.
///
/// Others may have broken with it, so who has been idle since then is asked whether it lives before it is used again: a
/// restart of PostgreSQL fails those who are at it, and nobody afterwards.
struct LastBreak {
    since: Instant,
    at: AtomicU64,
}

impl LastBreak {
    fn new() -> Self {
        Self { since: Instant::now(), at: AtomicU64::new(0) }
    }

    fn note(&self) {
        self.at.fetch_max(self.now(), Ordering::Relaxed);
    }

    /// Whether it was within the last `length`.
    fn is_within(&self, length: Duration) -> bool {
        self.at.load(Ordering::Relaxed).saturating_add(millis(length)) >= self.now()
    }

    fn now(&self) -> u64 {
        millis(self.since.elapsed())
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
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
