//! What has expired goes, a few rows at a time: nobody who signs in meanwhile waits for more than that.

use super::{Storage, StorageError, work::on};
use crate::domain::Timestamp;

/// What grows, and must shrink by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiring {
    /// Sessions, ended or not, whose last access token has ended, too.
    Sessions,
    /// Revocations that concern no token any more, but for the last, by which followers know their place.
    Revocations,
}

impl Expiring {
    pub const ALL: [Self; 2] = [Self::Sessions, Self::Revocations];

    /// The table's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Revocations => "revocations",
        }
    }
}

/// What a batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    pub rows: usize,
    /// Where the next batch goes on: it need not walk over what this one left behind in the index.
    pub up_to: Timestamp,
}

impl Storage {
    /// Deletes at most `count` rows that have expired, the oldest first, beginning at `from`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn purge(
        &self,
        what: Expiring,
        count: u32,
        from: Timestamp,
        now: Timestamp,
    ) -> Result<Purged, StorageError> {
        const SESSIONS: &str = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions \
             WHERE expires_at >= $1 AND expires_at < $2 ORDER BY expires_at LIMIT $3) RETURNING expires_at";
        const REVOCATIONS: &str = "DELETE FROM revocations WHERE (seq, value) IN (SELECT seq, value FROM revocations \
             WHERE ended_at >= $1 AND ended_at < $2 AND seq < (SELECT seq FROM revocation_feed) \
             ORDER BY ended_at LIMIT $3) RETURNING ended_at";
        let sql = match what {
            Expiring::Sessions => SESSIONS,
            Expiring::Revocations => REVOCATIONS,
        };
        let before = self.revoked.start_of(now);
        let ends: Vec<i64> = on!(write self, |tx| {
            let purge = sqlx::query_scalar(sql).bind(from.0).bind(before.0).bind(i64::from(count));
            purge.fetch_all(&mut *tx).await?
        })
        .await?;
        let up_to = ends.iter().max().map_or(from, |end| Timestamp(*end));
        Ok(Purged { rows: ends.len(), up_to })
    }
}
