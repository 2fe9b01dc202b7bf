//! Reads pages of the feed for other services.

use super::{feed::Claim, set::Place};
use crate::{
    domain::{FeedPage, FeedRow, SessionId, Timestamp, TokenId},
    storage::{Storage, StorageError},
};
use uuid::Uuid;

/// A row of the feed with the claim that it names.
#[derive(sqlx::FromRow)]
struct PublishedRow {
    seq: i64,
    claim: String,
    value: Uuid,
    ended_at: i64,
}

impl Storage {
    /// The page of the feed after the number `after`; `None` if `after` is beyond the end of the feed.
    ///
    /// A page has at most 1,000 rows, or all rows of one number that has more: a number is never on two pages.
    pub async fn feed_page(&self, after: i64) -> Result<Option<FeedPage>, StorageError> {
        const PAGE: usize = 1000;
        const ROWS: &str = r"
            SELECT seq, claim, value, ended_at
            FROM revocations
            WHERE seq > $1 AND seq <= $2
            ORDER BY seq, value
            LIMIT $3";
        let head = self.feed_head().await?;
        if after > head.seq {
            return Ok(None);
        }
        let read = async |from: i64, to: i64, limit: usize| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            self.read_all::<PublishedRow>(ROWS, |query| query.bind(from).bind(to).bind(limit)).await
        };
        // Every number up to that of the head is committed.
        let mut rows = read(after, head.seq, PAGE + 1).await?;
        let mut next = head.seq;
        if rows.len() > PAGE {
            let cut = rows[PAGE].seq;
            rows.retain(|row| row.seq < cut);
            if rows.is_empty() {
                rows = read(cut - 1, cut, usize::MAX).await?;
            }
            next = rows.last().map_or(cut, |row| row.seq);
        }
        if let Some(PublishedRow { seq, value, .. }) = rows.last() {
            self.revoked.note_place(Place { feed_id: head.feed_id, seq: *seq, value: *value });
        }
        let row = |row: PublishedRow| FeedRow {
            seq: row.seq,
            value: match Claim::of_name(&row.claim) {
                Claim::Session => SessionId(row.value).to_string(),
                Claim::Token => TokenId(row.value).to_string(),
            },
            claim: row.claim,
            expires_at: self.revoked.expiry(Timestamp(row.ended_at)),
        };
        Ok(Some(FeedPage { feed: head.feed_id, revocations: rows.into_iter().map(row).collect(), next }))
    }
}
