//! Background work on the database: follow the feed of revocations, send mails, and purge expired rows.

use crate::{
    auth::Auth,
    clock::Clock,
    domain::Timestamp,
    random::random,
    storage::{Expiring, Follower, NAME_CONFLICT, Storage, StorageError},
    telemetry::{LogOnce, Metrics},
};
use futures_util::future::join5;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// How often each job runs, except the one that follows the feed.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// How often the service looks for mails to be sent.
const MAIL_INTERVAL: Duration = Duration::from_secs(1);
/// How many rows one statement deletes: few enough that a sign-in which waits for it is not delayed noticeably.
const BATCH: u32 = 200;
/// How long a purge pauses after a batch, in multiples of the time that the batch took: a purge uses at most a fifth of the
/// database's time.
const PAUSE: u32 = 4;

/// The background jobs.
pub struct Jobs {
    pub storage: Storage,
    pub follower: Follower,
    pub auth: Arc<Auth>,
    pub poll_interval: Duration,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

impl Jobs {
    /// Runs until the future is dropped. An open transaction is then rolled back.
    pub async fn run(self) -> Infallible {
        let Self { storage, follower, auth, poll_interval, clock, metrics } = self;
        let following = follow(follower, poll_interval);
        let forgetting = forget(&storage, &clock);
        let purging = purge(&storage, &clock, &metrics);
        let delivering = deliver(&auth, &clock);
        let (never, ..) = join5(following, forgetting, purging, delivering, fold_names(&storage)).await;
        never
    }
}

/// Polls the feed of revocations. `Storage::trust` refuses tokens when the feed has been unreadable for too long.
async fn follow(mut follower: Follower, poll_interval: Duration) -> Infallible {
    let log = LogOnce::default();
    loop {
        sleep(poll_interval).await;
        log_fault(&log, "the feed of revocations cannot be read", follower.catch_up().await);
    }
}

/// Stores the keys by which names are compared, for users that a replica of an earlier version created.
async fn fold_names(storage: &Storage) -> Infallible {
    let (log, mut known) = (LogOnce::default(), Vec::new());
    loop {
        sleep(SWEEP_INTERVAL).await;
        let Some(conflicts) = log_fault(&log, "the keys of names cannot be stored", storage.fold_names().await) else {
            continue;
        };
        for user in conflicts.iter().filter(|user| !known.contains(*user)) {
            tracing::error!(user.id = user.0, "{NAME_CONFLICT}");
        }
        known = conflicts;
    }
}

/// Removes revocations of expired tokens from memory.
async fn forget(storage: &Storage, clock: &Clock) -> Infallible {
    loop {
        sleep(SWEEP_INTERVAL).await;
        if let Some(now) = earlier_of_both_clocks(storage, clock).await {
            storage.forget_revocations(now);
        }
    }
}

/// Sends mails.
async fn deliver(auth: &Auth, clock: &Clock) -> Infallible {
    let (log, holder) = (LogOnce::default(), format!("{:032x}", u128::from_ne_bytes(random())));
    loop {
        sleep(MAIL_INTERVAL).await;
        while log_fault(&log, "the outbox cannot be read", auth.deliver_mail(&holder, clock.now()).await) == Some(true)
        {
        }
    }
}

/// Deletes expired rows.
async fn purge(storage: &Storage, clock: &Clock, metrics: &Metrics) -> Infallible {
    let tables = Expiring::ALL.map(|table| (table, LogOnce::default()));
    loop {
        if let Some(now) = earlier_of_both_clocks(storage, clock).await {
            for (table, log) in &tables {
                log_fault(log, "expired rows cannot be purged", purge_all(storage, *table, now, metrics).await);
            }
        }
        sleep(SWEEP_INTERVAL).await;
    }
}

/// Purges one table in batches. Skips rows that another replica purges at the same time.
async fn purge_all(storage: &Storage, table: Expiring, now: Timestamp, metrics: &Metrics) -> Result<(), StorageError> {
    let (mut from, mut rows) = (Timestamp(i64::MIN), 0);
    loop {
        let began = Instant::now();
        let purged = storage.purge(table, BATCH, from, now).await?;
        metrics.purged(table.name(), purged.rows);
        rows += purged.rows;
        from = purged.up_to;
        if purged.rows == 0 {
            break;
        }
        sleep(began.elapsed() * PAUSE).await;
    }
    if rows > 0 {
        tracing::info!(table = table.name(), rows, "purged expired rows");
    }
    Ok(())
}

/// The earlier of this replica's time and the database's, so that a clock that is ahead purges nothing too early.
async fn earlier_of_both_clocks(storage: &Storage, clock: &Clock) -> Option<Timestamp> {
    let of_database = storage.clock().await.ok()?;
    Some(of_database.map_or(clock.now(), |time| time.min(clock.now())))
}

/// Logs a fault once until the operation succeeds again. (`storage` itself logs that the database is unavailable.)
fn log_fault<T>(log: &LogOnce, what: &str, result: Result<T, StorageError>) -> Option<T> {
    match &result {
        Err(error @ StorageError::Fault(_)) if log.fails() => tracing::error!("{what}: {error}"),
        Err(StorageError::Fault(_)) => {}
        _ => _ = log.recovers(),
    }
    result.ok()
}
