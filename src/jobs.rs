//! Background work: follow the feed of revocations, and purge what has expired.

use crate::{
    clock::Clock,
    domain::Timestamp,
    storage::{Expiring, Follower, Storage, StorageError},
    telemetry::Metrics,
};
use futures_util::future::join;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// How often the service looks for what has expired.
const PURGE_INTERVAL: Duration = Duration::from_mins(1);
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
        let (never, _) = join(follow(follower, poll_interval, &clock), purge(&storage, &clock, &metrics)).await;
        never
    }
}

/// Reads what is new in the feed, again and again. A feed that cannot be read ages, and `Storage::trust` sees to that.
async fn follow(mut follower: Follower, poll_interval: Duration, clock: &Clock) -> Infallible {
    let mut was_at_fault = false;
    loop {
        sleep(poll_interval).await;
        let outcome = follower.catch_up(clock.now()).await;
        // The storage has said it when the database is away.
        let is_at_fault = matches!(outcome, Err(StorageError::Fault(_)));
        if let Err(error) = outcome
            && is_at_fault
            && !was_at_fault
        {
            tracing::error!("the feed of revocations cannot be read: {error}");
        }
        was_at_fault = is_at_fault;
    }
}

async fn purge(storage: &Storage, clock: &Clock, metrics: &Metrics) -> Infallible {
    loop {
        // A clock that is ahead of the database's must not make anything end before its time.
        if let Ok(theirs) = storage.clock().await {
            let now = theirs.map_or(clock.now(), |theirs| theirs.min(clock.now()));
            for what in Expiring::ALL {
                let purged = purge_all(storage, what, now, metrics).await;
                if purged > 0 {
                    tracing::info!(table = what.name(), rows = purged, "purged what has expired");
                }
            }
            storage.forget_revocations(now);
        }
        sleep(PURGE_INTERVAL).await;
    }
}

/// Purges one table in batches, and leaves the rest for the next time when the database is away or another replica is
/// at the same rows.
async fn purge_all(storage: &Storage, what: Expiring, now: Timestamp, metrics: &Metrics) -> u64 {
    let (mut from, mut rows) = (Timestamp(i64::MIN), 0);
    loop {
        let began = Instant::now();
        let Ok(purged) = storage.purge(what, BATCH, from, now).await else { return rows };
        metrics.purged(what.name(), purged.rows);
        rows += purged.rows as u64;
        from = purged.up_to;
        if purged.rows == 0 {
            return rows;
        }
        sleep(began.elapsed() * PAUSE).await;
    }
}
