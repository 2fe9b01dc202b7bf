//! Background work: follow the feed of revocations, purge what has expired, and look for changed keys.

use crate::{
    clock::Clock,
    domain::Timestamp,
    storage::{Expiring, Follower, NAME_CONFLICT, Storage, StorageError},
    telemetry::Metrics,
};
use futures_util::future::join4;
use std::{convert::Infallible, fmt::Display, sync::Arc, time::Duration};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

/// How often the service looks for what has expired.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// How often the service reads the folder of keys.
const KEYS_INTERVAL: Duration = Duration::from_secs(10);
/// How many rows go at once: few enough that a sign-in does not notice waiting for them.
const BATCH: u32 = 200;
/// After each batch the database is left alone for so many times as long as the batch took: a purge takes at most a
/// fifth of its time, however slow it is.
const PAUSE: u32 = 4;

/// What the service does without being asked.
pub struct Jobs {
    pub storage: Storage,
    pub follower: Follower,
    pub poll_interval: Duration,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

impl Jobs {
    /// Works until it is dropped; what is in the middle then is rolled back.
    pub async fn run(self) -> Infallible {
        let Self { storage, follower, poll_interval, clock, metrics } = self;
        let following = follow(follower, poll_interval);
        let forgetting = forget(&storage, &clock);
        let purging = purge(&storage, &clock, &metrics);
        let (never, ..) = join4(following, forgetting, purging, fold_names(&storage)).await;
        never
    }
}

/// Reads what is new in the feed, again and again. A feed that cannot be read ages, and `Storage::trust` sees to that.
async fn follow(mut follower: Follower, poll_interval: Duration) -> Infallible {
    let mut failures = Failures::default();
    loop {
        sleep(poll_interval).await;
        failures.note("the feed of revocations cannot be read", follower.catch_up().await.err());
    }
}

/// Reads the folder of keys again and again, on a thread that may wait for a disk. A fault is logged once until it has
/// passed; the service keeps its keys meanwhile.
pub async fn watch_keys<E: Display + Send + 'static>(
    read: impl Fn() -> Result<(), E> + Clone + Send + 'static,
) -> Infallible {
    let mut failures = Failures::default();
    loop {
        sleep(KEYS_INTERVAL).await;
        // One at a time: a disk that does not answer must not block more than one thread.
        let fault = match spawn_blocking(read.clone()).await {
            Ok(read) => read.err().map(|error| error.to_string()),
            Err(panic) => Some(panic.to_string()),
        };
        if failures.has_failed && fault.is_none() {
            tracing::info!("the keys can be read again");
        }
        failures.note_any("the keys stay as they are", fault.as_ref());
    }
}

/// Makes the keys of the names of users that a replica of a version before created meanwhile.
async fn fold_names(storage: &Storage) -> Infallible {
    let (mut failures, mut known) = (Failures::default(), Vec::new());
    loop {
        sleep(SWEEP_INTERVAL).await;
        match storage.fold_names().await {
            Ok(conflicts) => {
                for user in conflicts.iter().filter(|user| !known.contains(*user)) {
                    tracing::error!(user.id = user.0, "{NAME_CONFLICT}");
                }
                known = conflicts;
                failures.note("", None);
            }
            Err(error) => failures.note("the keys of names cannot be made", Some(error)),
        }
    }
}

/// Frees the memory of revocations that concern no token any more.
async fn forget(storage: &Storage, clock: &Clock) -> Infallible {
    loop {
        sleep(SWEEP_INTERVAL).await;
        if let Some(now) = earlier_of_both_clocks(storage, clock).await {
            storage.forget_revocations(now);
        }
    }
}

/// Deletes what has expired.
async fn purge(storage: &Storage, clock: &Clock, metrics: &Metrics) -> Infallible {
    let mut failures = Failures::default();
    loop {
        if let Some(now) = earlier_of_both_clocks(storage, clock).await {
            for what in Expiring::ALL {
                failures.note("what has expired cannot be purged", purge_all(storage, what, now, metrics).await.err());
            }
        }
        sleep(SWEEP_INTERVAL).await;
    }
}

/// Purges one table in batches. Where another replica is at the same rows, the rest is left to it.
async fn purge_all(storage: &Storage, what: Expiring, now: Timestamp, metrics: &Metrics) -> Result<(), StorageError> {
    let (mut from, mut rows) = (Timestamp(i64::MIN), 0);
    loop {
        let began = Instant::now();
        let purged = storage.purge(what, BATCH, from, now).await?;
        metrics.purged(what.name(), purged.rows);
        rows += purged.rows;
        from = purged.up_to;
        if purged.rows == 0 {
            break;
        }
        sleep(began.elapsed() * PAUSE).await;
    }
    if rows > 0 {
        tracing::info!(table = what.name(), rows, "purged what has expired");
    }
    Ok(())
}

/// A clock that is ahead of the database's must not make anything end before its time.
async fn earlier_of_both_clocks(storage: &Storage, clock: &Clock) -> Option<Timestamp> {
    let theirs = storage.clock().await.ok()?;
    Some(theirs.map_or(clock.now(), |theirs| theirs.min(clock.now())))
}

/// Logs a fault of ours once, until it has passed. (That the database is away is said by the storage.)
#[derive(Default)]
struct Failures {
    has_failed: bool,
}

impl Failures {
    fn note(&mut self, what: &str, error: Option<StorageError>) {
        let fault = error.filter(|error| matches!(error, StorageError::Fault(_)));
        self.note_any(what, fault.as_ref());
    }

    fn note_any(&mut self, what: &str, fault: Option<&impl Display>) {
        if let Some(fault) = fault
            && !self.has_failed
        {
            tracing::error!("{what}: {fault}");
        }
        self.has_failed = fault.is_some();
    }
}
