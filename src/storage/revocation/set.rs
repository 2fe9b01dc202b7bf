//! The revocations that this replica knows, in memory: every access token is looked up without a query and without a
//! lock.

use super::Revocation;
use crate::{
    config::{Jwt, MaxStaleness},
    domain::{AccessToken, MAX_CLOCK_SKEW, Seconds, Timestamp},
    storage::Storage,
};
use scc::HashIndex;
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

/// The ids of ended sessions and revoked tokens, each kept until the access tokens concerned have expired, and the time
/// of the last reading of the feed.
///
/// `sid` and `jti` share one table: both are 128 random bits. A reader never waits for a writer.
pub(in crate::storage) struct RevokedSet {
    expires_at: HashIndex<Uuid, Timestamp>,
    opened_at: Instant,
    /// When the last complete reading of the feed began: milliseconds since `opened_at`, plus one; 0 for never.
    read_at: AtomicU64,
    /// How long ago that may be; `None` for no limit.
    max_staleness: Option<Duration>,
    /// How long an access token can outlive the end of its session.
    retention: Seconds,
    /// The number of revocations that were added. Requests that wait for a revocation subscribe to it.
    news: watch::Sender<u64>,
    /// The last row that the follower has read, and the rows after it that this replica has written or shown to other
    /// services.
    places: Mutex<Vec<Place>>,
}

/// A row of the feed.
#[derive(Debug, Clone, Copy)]
pub(in crate::storage) struct Place {
    pub(super) feed_id: Uuid,
    pub(super) seq: i64,
    pub(super) value: Uuid,
}

/// What the set says of an access token whose signature and claims are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    Good,
    /// The token was revoked, or its session has ended.
    Revoked,
    /// The last reading of the feed is too long ago to tell.
    Stale,
}

impl Storage {
    /// Whether a verified access token may be trusted. Needs no query and no lock.
    pub fn trust(&self, token: &AccessToken) -> Trust {
        // Checked before the look-up. In the opposite order, a stale set could be looked up, then become fresh, and a
        // token that the reading has just revoked would be trusted.
        let is_fresh = self.revoked.is_fresh();
        let is_ended = token.session().is_some_and(|session| self.revoked.has(session.0));
        if is_ended || self.revoked.has(token.id.0) {
            Trust::Revoked
        } else if is_fresh {
            Trust::Good
        } else {
            Trust::Stale
        }
    }

    /// Whether tokens can be checked: the feed was read, and not too long ago.
    pub fn knows_revocations(&self) -> bool {
        self.revoked.is_fresh()
    }

    /// The number of revocations that this replica has learnt. The receiver is notified of each change.
    pub fn revocation_news(&self) -> watch::Receiver<u64> {
        self.revoked.news.subscribe()
    }

    /// How long ago the feed was read to its end; `None` if it never was.
    pub fn feed_age(&self) -> Option<Duration> {
        self.revoked.age()
    }

    /// How many revocations are in memory.
    pub fn revoked_count(&self) -> usize {
        self.revoked.expires_at.len()
    }

    /// Frees the memory of revocations whose access tokens have all expired.
    pub fn forget_revocations(&self, now: Timestamp) {
        self.revoked.expires_at.retain_sync(|_, until| *until > now);
    }
}

impl RevokedSet {
    pub(in crate::storage) fn new(max_staleness: MaxStaleness, jwt: &Jwt) -> Self {
        // A refresh may come within the leeway after the session has expired, and its access token is accepted for
        // another leeway after its own expiry.
        let leeway = Seconds(2 * jwt.leeway.0 + MAX_CLOCK_SKEW.0);
        Self {
            expires_at: HashIndex::default(),
            opened_at: Instant::now(),
            read_at: AtomicU64::new(0),
            max_staleness: match max_staleness {
                MaxStaleness::After(length) => Some(length),
                MaxStaleness::Never => None,
            },
            retention: Seconds(jwt.access_token_lifetime.0.saturating_add(leeway.0)),
            news: watch::Sender::new(0),
            places: Mutex::default(),
        }
    }

    /// The access tokens of a session that ended before this time have all expired.
    pub(in crate::storage) fn oldest_relevant(&self, now: Timestamp) -> Timestamp {
        now - self.retention
    }

    /// Records a row that this replica has written, or shown to another service.
    pub(super) fn note_place(&self, place: Place) {
        let mut places = self.lock_places();
        // A bound for the time in which the feed cannot be read.
        if places.len() < 10_000 {
            places.push(place);
        }
    }

    /// Records that the follower has read up to this row.
    pub(super) fn settle_places(&self, cursor: Place) {
        let mut places = self.lock_places();
        places.retain(|place| place.feed_id == cursor.feed_id && place.seq > cursor.seq);
        places.push(cursor);
    }

    /// Whether rows were written or shown since the follower read up to its last row.
    pub(super) fn has_new_places(&self) -> bool {
        self.lock_places().len() > 1
    }

    pub(super) fn places(&self) -> Vec<Place> {
        self.lock_places().clone()
    }

    fn lock_places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time at which every access token of a session that ended at `ended_at` has expired.
    pub(super) fn expiry(&self, ended_at: Timestamp) -> Timestamp {
        ended_at + self.retention
    }

    pub(super) fn add(&self, revocations: &[Revocation]) {
        let mut added = 0;
        for Revocation { id, ended_at } in revocations {
            let until = self.expiry(*ended_at);
            let is_new = self.expires_at.insert_sync(*id, until).is_ok();
            added += u64::from(is_new);
            if !is_new
                // A database that lost the first revocation (a failover) can have a second one of the same session,
                // which must be kept for longer.
                && let Some(mut entry) = self.expires_at.get_sync(id)
                && *entry.get() < until
            {
                entry.update(until);
                added += 1;
            }
        }
        if added > 0 {
            self.news.send_modify(|count| *count += added);
        }
    }

    fn has(&self, id: Uuid) -> bool {
        self.expires_at.contains(&id)
    }

    /// Records that a reading of the feed, begun at `asked_at`, is complete.
    pub(super) fn note_reading(&self, asked_at: Instant) {
        let since = asked_at.saturating_duration_since(self.opened_at).as_millis();
        self.read_at.store(u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1), Ordering::Release);
    }

    fn age(&self) -> Option<Duration> {
        let since = self.read_at.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.opened_at.elapsed().saturating_sub(Duration::from_millis(since)))
    }

    /// Whether an id that is missing here is certainly not revoked. Always false before the first reading, whatever the
    /// settings say.
    fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| self.max_staleness.is_none_or(|max| age <= max))
    }
}
