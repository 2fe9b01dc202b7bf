//! What was taken back before its time: the feed that every replica follows (DESIGN, "Revocation").
//!
//! Whoever ends sessions or revokes a token does it in [`on!(end …)`](super::work), which counts the feed up first, adds
//! a row for each, and tells this replica's memory after the commit, before anybody is answered. The other replicas ask
//! for what is new twice a second.

use super::{Storage, StorageError, work::on};
use crate::domain::{AccessToken, Timestamp, TokenId};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Counts the feed up and locks it until the transaction ends: read instead, two transactions could commit under one
/// number, or under numbers that are not in the order of their commits, and a follower would miss one of them.
pub(super) const NEXT_SEQ: &str = "UPDATE revocation_feed SET seq = seq + 1 RETURNING seq";

/// What was taken back: a session, or a single token.
#[derive(sqlx::FromRow)]
pub(super) struct Ended {
    pub(super) id: Uuid,
    pub(super) last_used_at: i64,
}

/// The beginning of an `INSERT` of rows that were taken back.
pub(super) const RECORD: &str = "INSERT INTO revocations (seq, claim, value, expires_at) ";

/// How many rows are read with one question.
const PAGE: i64 = 10_000;

/// What memory says of an access token that verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Neither it nor its session was taken back.
    Good,
    /// It was, or its session has ended.
    Revoked,
    /// The feed could not be read for too long to say so.
    Stale,
}

impl Storage {
    /// Whether an access token that verified may be trusted: from memory, without a query and without a lock.
    pub fn trust(&self, token: &AccessToken) -> Trust {
        if self.revoked.has(token.session.0) || self.revoked.has(token.id.0) {
            Trust::Revoked
        } else if self.revoked.is_fresh() {
            Trust::Good
        } else {
            Trust::Stale
        }
    }

    /// Takes a single access token back, which nothing else can end before its time.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn revoke_token(&self, id: TokenId, now: Timestamp) -> Result<(), StorageError> {
        on!(end "jti" self, now, |tx| ((), vec![Ended { id: id.0, last_used_at: now.0 }])).await
    }

    /// Whether tokens can be checked: the feed was read, and not too long ago.
    pub fn knows_revocations(&self) -> bool {
        self.revoked.is_fresh()
    }

    /// How long ago the feed was read to its end; `None` if it never was.
    pub fn feed_age(&self) -> Option<Duration> {
        self.revoked.age()
    }

    /// How many sessions and tokens are known to be taken back.
    pub fn revoked_count(&self) -> usize {
        self.revoked.len()
    }

    /// Frees the memory of revocations that concern no token any more.
    pub fn forget_revocations(&self, now: Timestamp) {
        self.revoked.forget_before(now);
    }
}

#[derive(sqlx::FromRow)]
struct FeedRow {
    feed_id: Uuid,
    seq: i64,
}

#[derive(sqlx::FromRow)]
struct RevocationRow {
    seq: i64,
    value: Uuid,
    expires_at: i64,
}

/// The last row that was read; no row has a `seq` of 0.
type Cursor = (i64, Uuid);

const BEGINNING: Cursor = (0, Uuid::nil());

/// A replica's place in the feed.
pub struct Follower {
    storage: Storage,
    /// Which feed, and as seen over which connections; none before the first reading, and after a failed one.
    place: Option<(Uuid, usize)>,
    cursor: Cursor,
}

impl Follower {
    pub fn new(storage: Storage) -> Self {
        Self { storage, place: None, cursor: BEGINNING }
    }

    /// Reads what is new into memory. Everything unexpired is read anew when this may not be the history that was
    /// followed so far: another `feed_id`, a `seq` that fell, or a connection that was made since (a failover may have
    /// lost commits and gone on counting). What is known stays known: whoever was told that a session has ended may
    /// rely on that, whatever the database has forgotten.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn catch_up(&mut self, now: Timestamp) -> Result<(), StorageError> {
        const FEED: &str = "SELECT feed_id, seq FROM revocation_feed";
        const NEWS: &str = "SELECT seq, value, expires_at FROM revocations \
             WHERE (seq, value) > ($1, $2) AND expires_at > $3 ORDER BY seq, value LIMIT $4";
        let asked_at = Instant::now();
        let known = self.place.take();
        let storage = &self.storage;
        // The counter first: every row up to it is there to be read.
        let feed: FeedRow = on!(read storage, |connection| sqlx::query_as(FEED).fetch_one(connection).await).await?;
        let place = (feed.feed_id, storage.connections_made());
        if known != Some(place) || feed.seq < self.cursor.0 {
            self.cursor = BEGINNING;
        }
        // What has expired is left out where there may be much of it. Of what is new everything is taken: our clock may
        // be ahead, and fall back.
        let unexpired_at = if self.cursor == BEGINNING { now } else { Timestamp(i64::MIN) };
        let mut may_be_more = feed.seq > self.cursor.0;
        while may_be_more {
            let (seq, value) = self.cursor;
            let rows: Vec<RevocationRow> = on!(read storage, |connection| {
                let news = sqlx::query_as(NEWS).bind(seq).bind(value).bind(unexpired_at.0).bind(PAGE);
                news.fetch_all(connection).await
            })
            .await?;
            let ended: Vec<_> = rows.iter().map(|row| (row.value, Timestamp(row.expires_at))).collect();
            storage.revoked.add(&ended);
            self.cursor = rows.last().map_or(self.cursor, |row| (row.seq, row.value));
            may_be_more = i64::try_from(rows.len()) == Ok(PAGE);
        }
        // Counted up without a row that is still of interest.
        if self.cursor.0 < feed.seq {
            self.cursor = (feed.seq, Uuid::max());
        }
        self.place = Some(place);
        storage.revoked.read(asked_at);
        Ok(())
    }
}
