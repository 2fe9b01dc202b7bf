//! The feed: [`Ending`] writes it, [`Follower`] reads it.

use super::{Revocation, RevokedSet, set::Place};
use crate::{
    domain::{Action, AuditContext, Outcome, Timestamp, TokenId, UserId},
    random::random,
    storage::{
        Storage, StorageError,
        pool::postgres::InRecovery,
        query::{Query, Tx},
    },
};
use sqlx::AssertSqlSafe;
use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};
use tokio::time::Instant;
use uuid::Uuid;

/// The claim of an access token that a revocation names.
#[derive(Debug, Clone, Copy)]
pub(in crate::storage) enum Claim {
    Session,
    Token,
}

impl Claim {
    fn name(self) -> &'static str {
        match self {
            Self::Session => "sid",
            Self::Token => "jti",
        }
    }

    pub(super) fn of_name(name: &str) -> Self {
        if name == "jti" { Self::Token } else { Self::Session }
    }
}

/// The row of `revocation_feed`.
#[derive(sqlx::FromRow)]
pub(super) struct FeedHead {
    pub(super) feed_id: Uuid,
    pub(super) seq: i64,
    is_in_recovery: bool,
}

/// An `UPDATE` that ends sessions and returns an [`EndedRow`](super::EndedRow) for each. A plain [`Tx`] does not accept
/// it.
#[derive(Clone, Copy)]
pub(in crate::storage) struct EndSessions(pub(in crate::storage) &'static str);

/// A transaction that ends sessions or revokes a token. Only [`Ending::commit`] commits it, together with its
/// revocations.
pub(in crate::storage) struct Ending {
    tx: Tx,
    claim: Claim,
    feed_id: Uuid,
    seq: i64,
    set: Arc<RevokedSet>,
}

impl Storage {
    /// Begins a transaction that ends sessions or revokes a token.
    ///
    /// It increments the feed's counter first, before it locks users and sessions: such transactions wait for each
    /// other here and nowhere later. The `UPDATE` locks the counter until the commit. If transactions A and B only read
    /// it, both could commit under one number, or B could commit the greater number first; a follower that had read B
    /// would miss A.
    pub(in crate::storage) async fn begin_ending(&self, claim: Claim) -> Result<Ending, sqlx::Error> {
        const NEXT_SEQ: &str = "UPDATE revocation_feed SET seq = seq + 1 RETURNING feed_id, seq";
        let mut tx = self.begin().await?;
        let (feed_id, seq) = tx.query(NEXT_SEQ).fetch_one().await?;
        Ok(Ending { tx, claim, feed_id, seq, set: Arc::clone(&self.revoked) })
    }

    /// Adds revocations that are in the database already to the set of this replica.
    pub(in crate::storage) fn learn_revocations(&self, committed: &[Revocation]) {
        self.revoked.add(committed);
    }

    /// Revokes a single access token; its session continues. `subject` is its user; `None` for the token of a client.
    pub async fn revoke_token(
        &self,
        id: TokenId,
        subject: Option<UserId>,
        context: &AuditContext,
    ) -> Result<(), StorageError> {
        self.write(|| async {
            let mut ending = self.begin_ending(Claim::Token).await?;
            ending.record(Action::TokenRevoke, Outcome::Ok, subject, context).await?;
            ending.commit(&[Revocation { id: id.0, ended_at: context.at }]).await
        })
        .await
    }

    /// Gives the feed a new id if the database has lost a row that this replica has written, read or shown. Of several
    /// replicas, one changes the id.
    async fn renew_feed_if_it_lost_rows(&self) -> Result<(), StorageError> {
        const ROWS: &str = "SELECT seq, value FROM revocations WHERE seq >= $1 AND seq <= $2";
        const RENEW: &str = "UPDATE revocation_feed SET feed_id = $2 WHERE feed_id = $1";
        // Before the head is read: a row that is committed in between is not lost.
        let mut places = self.revoked.places();
        let FeedHead { feed_id, seq: last, .. } = self.feed_head().await?;
        places.retain(|place| place.feed_id == feed_id);
        let numbers = || places.iter().map(|place| place.seq);
        let (Some(from), Some(to)) = (numbers().min(), numbers().max()) else { return Ok(()) };
        let rows: Vec<(i64, Uuid)> = self.read_all(ROWS, |query| query.bind(from).bind(to)).await?;
        let is_lost = |place: &Place| {
            let mut same_number = rows.iter().filter(|(seq, _)| *seq == place.seq).peekable();
            // Without any row of that number, the purge has deleted it.
            let is_replaced = same_number.peek().is_some() && same_number.all(|(_, value)| *value != place.value);
            place.seq > last || is_replaced
        };
        if !places.iter().any(is_lost) {
            return Ok(());
        }
        tracing::warn!(
            "the database has lost revocations that this replica knows; services that follow the feed read it again"
        );
        self.write(|| async {
            let mut tx = self.begin().await?;
            tx.query(RENEW).bind(feed_id).bind(Uuid::from_bytes(random())).execute().await?;
            tx.commit().await
        })
        .await
    }

    /// The row of the feed. A standby is refused: its data may be old, and a proxy may have switched to it from the
    /// server that answered so far.
    pub(super) async fn feed_head(&self) -> Result<FeedHead, StorageError> {
        const HEAD: &str = "SELECT feed_id, seq, pg_is_in_recovery() AS is_in_recovery FROM revocation_feed";
        const HEAD_OF_SQLITE: &str = "SELECT feed_id, seq, FALSE AS is_in_recovery FROM revocation_feed";
        let sql = if self.is_sqlite() { HEAD_OF_SQLITE } else { HEAD };
        self.read(|| async {
            let mut connection = self.connection().await?;
            let head: FeedHead = connection.query(sql).fetch_one().await?;
            if head.is_in_recovery {
                connection.close();
                return Err(InRecovery.into());
            }
            Ok(head)
        })
        .await
    }
}

impl Ending {
    /// Ends sessions. The rows that this returns are for [`Self::commit`].
    pub(in crate::storage) fn end(&mut self, sql: EndSessions) -> Query<'_> {
        self.tx.query(sql.0)
    }

    /// Writes a row for each revocation, commits, and adds them to the set of this replica.
    pub(in crate::storage) async fn commit(self, ended: &[Revocation]) -> Result<(), sqlx::Error> {
        // Every number has a row, by which a follower finds its place.
        const GIVE_BACK_SEQ: &str = "UPDATE revocation_feed SET seq = seq - 1";
        let Self { mut tx, claim, feed_id, seq, set } = self;
        if ended.is_empty() {
            tx.query(GIVE_BACK_SEQ).execute().await?;
        }
        for some in ended.chunks(1000) {
            let rows = (0..some.len()).map(|row| format!("($1, $2, ${}, ${})", 2 * row + 3, 2 * row + 4));
            let rows = rows.collect::<Vec<_>>().join(", ");
            let insert = format!("INSERT INTO revocations (seq, claim, value, ended_at) VALUES {rows}");
            let mut insert = tx.query(AssertSqlSafe(insert)).bind(seq).bind(claim.name());
            for revocation in some {
                insert = insert.bind(revocation.id).bind(revocation.ended_at.0);
            }
            insert.execute().await?;
        }
        tx.commit().await?;
        if let Some(revocation) = ended.last() {
            set.note_place(Place { feed_id, seq, value: revocation.id });
        }
        set.add(ended);
        Ok(())
    }

    /// Rolls back: no session ends, and the number is not used.
    pub(in crate::storage) async fn rollback(self) -> Result<(), sqlx::Error> {
        self.tx.rollback().await
    }
}

impl Deref for Ending {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for Ending {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}

#[derive(sqlx::FromRow)]
struct RevocationRow {
    seq: i64,
    value: Uuid,
    ended_at: i64,
}

/// How many rows one query reads.
const PAGE: i64 = 10_000;

/// The last row that was read.
type Cursor = (i64, Uuid);

/// Before the first row: no row has a `seq` of 0.
const START: Cursor = (0, Uuid::nil());

/// How far a replica has read the feed, and over which connection.
pub struct Follower {
    storage: Storage,
    /// The `feed_id` and the connection of the last reading; `None` before the first one and after one that failed.
    source: Option<(Uuid, usize)>,
    cursor: Cursor,
    /// Whether the database may have another history than the one that was read: a reading failed, or came over another
    /// connection.
    is_doubtful: bool,
}

impl Follower {
    pub fn new(storage: &Storage) -> Self {
        let storage = Storage { pool: storage.pool.only_one(), ..storage.clone() };
        Self { storage, source: None, cursor: START, is_doubtful: false }
    }

    /// Adds the rows after the cursor to the set.
    ///
    /// Reads the whole feed again after a failed reading, and when the history of the database may differ from the one
    /// read so far:
    /// - `feed_id` has changed: the database was replaced;
    /// - the connection has changed: a failover may have lost commits and reused their numbers;
    /// - the row at the cursor is missing: a backup was restored, and other rows may have its number by now. (The purge
    ///   keeps the last row.)
    ///
    /// Revocations stay in the set even if the database has lost their rows: a client that was told that a session has
    /// ended relies on that. If the database has lost rows, the feed gets a new `feed_id`, so that other services read
    /// it again: other rows may have the numbers that these services have read.
    pub async fn catch_up(&mut self) -> Result<(), StorageError> {
        let asked_at = Instant::now();
        let feed_id = self.storage.feed_head().await?.feed_id;
        let source = (feed_id, self.storage.pool.opened());
        if self.source.take() != Some(source) {
            self.restart();
        }
        loop {
            let rows = self.read_page().await?;
            let is_cursor_there = rows.first().is_some_and(|row| (row.seq, row.value) == self.cursor);
            if self.cursor != START && !is_cursor_there {
                self.restart();
                continue;
            }
            let revocations = rows.iter().map(|row| Revocation { id: row.value, ended_at: Timestamp(row.ended_at) });
            self.storage.learn_revocations(&revocations.collect::<Vec<_>>());
            self.cursor = rows.last().map_or(self.cursor, |row| (row.seq, row.value));
            if i64::try_from(rows.len()) != Ok(PAGE) {
                break;
            }
        }
        self.source = Some(source);
        self.storage.revoked.note_reading(asked_at);
        // After a failure, and for rows that other services may have seen before this reading.
        if self.is_doubtful || self.storage.revoked.has_new_places() {
            // If the new id cannot be written now, the next reading tries again.
            self.storage.renew_feed_if_it_lost_rows().await?;
            self.is_doubtful = false;
        }
        let (seq, value) = self.cursor;
        if self.cursor != START {
            self.storage.revoked.settle_places(Place { feed_id, seq, value });
        }
        Ok(())
    }

    /// Reads from the start: the history may be another one.
    fn restart(&mut self) {
        self.cursor = START;
        self.is_doubtful = true;
    }

    /// The next rows, beginning with the row at the cursor, which shows that the history is the same.
    async fn read_page(&self) -> Result<Vec<RevocationRow>, StorageError> {
        const PAGE_FROM: &str = r"
            SELECT seq, value, ended_at
            FROM revocations
            WHERE (seq, value) >= ($1, $2)
            ORDER BY seq, value
            LIMIT $3";
        let (seq, value) = self.cursor;
        self.storage.read_all(PAGE_FROM, |query| query.bind(seq).bind(value).bind(PAGE)).await
    }
}
