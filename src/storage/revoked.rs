//! What has been taken back, in memory: asked for every access token, without a query and without waiting for anybody.

use super::revocations::Ended;
use crate::domain::{Seconds, Timestamp};
use scc::HashIndex;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

/// The ids of ended sessions and single tokens whose access tokens may still be about, and how old that knowledge is.
///
/// `sid` and `jti` share one table: both are 128 random bits of ours. Whoever reads it never waits for who writes to it.
pub(super) struct Revoked {
    until: HashIndex<Uuid, Timestamp>,
    opened_at: Instant,
    /// When the feed was asked that was last read to its end: milliseconds since `opened_at`, plus one; 0 for never.
    read_at: AtomicU64,
    /// How old the knowledge may be; `None` for as old as it gets.
    max_staleness: Option<Duration>,
    /// How long an access token can outlive the end of its session.
    reach: Seconds,
}

impl Revoked {
    pub(super) fn new(max_staleness: Option<Duration>, reach: Seconds) -> Self {
        let (until, opened_at, read_at) = (HashIndex::default(), Instant::now(), AtomicU64::new(0));
        Self { until, opened_at, read_at, max_staleness, reach }
    }

    /// Of what ended before this, no access token can be about any more.
    pub(super) fn start_of(&self, now: Timestamp) -> Timestamp {
        now - self.reach
    }

    pub(super) fn add(&self, ended: &[Ended]) {
        for Ended { id, ended_at } in ended {
            let until = *ended_at + self.reach;
            if self.until.insert_sync(*id, until).is_err()
                // Known already. A database that forgot the first end has seen a second, which reaches further.
                && let Some(mut entry) = self.until.get_sync(id)
                && *entry.get() < until
            {
                entry.update(until);
            }
        }
    }

    pub(super) fn has(&self, id: Uuid) -> bool {
        self.until.contains(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.until.len()
    }

    /// Forgets what concerns no token any more.
    pub(super) fn forget_before(&self, now: Timestamp) {
        self.until.retain_sync(|_, until| *until > now);
    }

    /// Notes that the feed, asked at `asked_at`, was read to its end.
    pub(super) fn read(&self, asked_at: Instant) {
        let since = asked_at.saturating_duration_since(self.opened_at).as_millis();
        self.read_at.store(u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1), Ordering::Release);
    }

    /// How long ago the feed was read to its end; `None` if it never was.
    pub(super) fn age(&self) -> Option<Duration> {
        let since = self.read_at.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.opened_at.elapsed().saturating_sub(Duration::from_millis(since)))
    }

    /// Whether what is not in here can be trusted. Before the feed was read once it cannot, whatever the settings say.
    pub(super) fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| self.max_staleness.is_none_or(|max| age <= max))
    }
}
