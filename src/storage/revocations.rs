//! What was taken back before its time: the feed that every replica follows (DESIGN, "Revocation").
//!
//! Whoever ends sessions or revokes a token does it in [`on!(end …)`](super::work), which counts the feed up first, adds
//! a row for each, and tells this replica's memory after the commit, before anybody is answered. The other replicas ask
//! for what is new twice a second.

use super::{Storage, StorageError, postgres::InRecovery, work::on};
use crate::domain::{AccessToken, SessionState, Timestamp, TokenId};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Counts the feed up and locks it until the transaction ends: read instead, two transactions could commit under one
/// number, or under numbers that are not in the order of their commits, and a follower would miss one of them.
pub(super) const NEXT_SEQ: &str = "UPDATE revocation_feed SET seq = seq + 1 RETURNING seq";

/// Gives back a number under which nothing was recorded: every number has a row, by which a follower knows its place.
pub(super) const GIVE_BACK_SEQ: &str = "UPDATE revocation_feed SET seq = seq - 1";

/// What was taken back, a session or a single token, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) id: Uuid,
    pub(super) ended_at: Timestamp,
}

/// The columns of a session that ends, as [`ended`] wants them.
pub(super) type EndedRow = (Uuid, i64);

/// Sessions that end `now`. A clock that has fallen behind must not make that too early for the tokens that are about:
/// a session that was used after `now` ends when it was used last.
pub(super) fn ended(rows: Vec<EndedRow>, now: Timestamp) -> Vec<Ended> {
    let at = |last_used_at: i64| now.max(Timestamp(last_used_at) + SessionState::USE_IS_EXACT_TO);
    rows.into_iter().map(|(id, last_used_at)| Ended { id, ended_at: at(last_used_at) }).collect()
}

/// The beginning of an `INSERT` of rows that were taken back.
pub(super) const RECORD: &str = "INSERT INTO revocations (seq, claim, value, ended_at) ";

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
        // Asked first: what was read by then is seen by the look-up.
        let is_fresh = self.revoked.is_fresh();
        if self.revoked.has(token.session.0) || self.revoked.has(token.id.0) {
            Trust::Revoked
        } else if is_fresh {
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
        on!(end "jti" self, |tx| ((), vec![Ended { id: id.0, ended_at: now }])).await
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
struct RevocationRow {
    seq: i64,
    value: Uuid,
    ended_at: i64,
}

/// The last row that was read; no row has a `seq` of 0.
type Cursor = (i64, Uuid);

const BEGINNING: Cursor = (0, Uuid::nil());

/// A replica's place in the feed, and the connection that it is followed on.
pub struct Follower {
    storage: Storage,
    /// Which feed, and over which connection; none before the first reading, and after a failed one.
    place: Option<(Uuid, usize)>,
    cursor: Cursor,
}

impl Follower {
    pub fn new(storage: &Storage) -> Self {
        Self { storage: storage.on_one_connection(), place: None, cursor: BEGINNING }
    }

    /// Reads what is new into memory. Everything is read anew when this may not be the history that was followed so
    /// far: another `feed_id`, another connection (a failover may have lost commits and gone on counting), or the row
    /// that was read last is not there (a restored backup, in which others may have its number by now; the purge leaves
    /// the last row). What is known stays known: whoever was told that a session has ended may rely on that, whatever
    /// the database has forgotten.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn catch_up(&mut self) -> Result<(), StorageError> {
        // A standby answers from the past, and a proxy may have put one in the place of the server that was asked so far.
        const FEED: &str = "SELECT feed_id, pg_is_in_recovery() FROM revocation_feed";
        const FEED_OF_SQLITE: &str = "SELECT feed_id, FALSE FROM revocation_feed";
        // From the last row on, which is read again to see whether it is there.
        const NEWS: &str = "SELECT seq, value, ended_at FROM revocations \
             WHERE (seq, value) >= ($1, $2) ORDER BY seq, value LIMIT $3";
        let asked_at = Instant::now();
        let known = self.place.take();
        let storage = &self.storage;
        let sql = if storage.is_sqlite() { FEED_OF_SQLITE } else { FEED };
        let feed = on!(read storage, |connection| {
            let (feed, is_in_recovery): (Uuid, bool) = sqlx::query_as(sql).fetch_one(connection).await?;
            if is_in_recovery { Err(InRecovery.into()) } else { Ok(feed) }
        })
        .await?;
        let place = (feed, storage.connections_made());
        if known != Some(place) {
            self.cursor = BEGINNING;
        }
        loop {
            let (seq, value) = self.cursor;
            let rows: Vec<RevocationRow> = on!(read storage, |connection| {
                let news = sqlx::query_as(NEWS).bind(seq).bind(value).bind(PAGE);
                news.fetch_all(connection).await
            })
            .await?;
            let follows = rows.first().is_some_and(|row| (row.seq, row.value) == self.cursor);
            if self.cursor != BEGINNING && !follows {
                self.cursor = BEGINNING;
                continue;
            }
            let ended = rows.iter().map(|row| Ended { id: row.value, ended_at: Timestamp(row.ended_at) });
            storage.revoked.add(&ended.collect::<Vec<_>>());
            self.cursor = rows.last().map_or(self.cursor, |row| (row.seq, row.value));
            if i64::try_from(rows.len()) != Ok(PAGE) {
                break;
            }
        }
        self.place = Some(place);
        storage.revoked.read(asked_at);
        Ok(())
    }
}
