//! Deletes what has expired, a few rows at a time, so that a sign-in waits for no more than one small batch.

use super::{Storage, StorageError};
use crate::domain::Timestamp;

/// A table whose rows expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiring {
    /// Sessions, ended or not, whose last access token has expired.
    Sessions,
    /// Revocations whose access tokens have all expired, except the last row, by which followers find their place.
    Revocations,
    /// Failed sign-ins that no longer count, and the oldest ones of a full table.
    SignInFailures,
}

impl Expiring {
    pub const ALL: [Self; 3] = [Self::Sessions, Self::Revocations, Self::SignInFailures];

    /// The table's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Revocations => "revocations",
            Self::SignInFailures => "sign_in_failures",
        }
    }
}

/// What one batch deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    pub rows: usize,
    /// Where the next batch begins, so that it skips the index entries of the rows that this one deleted.
    pub up_to: Timestamp,
}

impl Storage {
    /// Deletes at most `count` rows that have expired, the oldest first, beginning at `from`.
    pub async fn purge(
        &self,
        what: Expiring,
        count: u32,
        from: Timestamp,
        now: Timestamp,
    ) -> Result<Purged, StorageError> {
        const SESSIONS: &str = r"
            DELETE FROM sessions
            WHERE id IN (
                SELECT id FROM sessions
                WHERE expires_at >= $1 AND expires_at < $2
                ORDER BY expires_at
                LIMIT $3
            )
            RETURNING expires_at";
        const REVOCATIONS: &str = r"
            DELETE FROM revocations
            WHERE (seq, value) IN (
                SELECT seq, value FROM revocations
                WHERE ended_at >= $1 AND ended_at < $2 AND seq < (SELECT seq FROM revocation_feed)
                ORDER BY ended_at
                LIMIT $3
            )
            RETURNING ended_at";
        const SIGN_IN_FAILURES: &str = r"
            DELETE FROM sign_in_failures
            WHERE (account, is_known) IN (
                SELECT account, is_known FROM sign_in_failures
                WHERE last_failed_at >= $1 AND last_failed_at < $2
                ORDER BY last_failed_at
                LIMIT $3
            )
            RETURNING last_failed_at";
        let sql = match what {
            Expiring::Sessions => SESSIONS,
            Expiring::Revocations => REVOCATIONS,
            Expiring::SignInFailures => SIGN_IN_FAILURES,
        };
        let before = match what {
            Expiring::Sessions | Expiring::Revocations => self.revoked.oldest_relevant(now),
            Expiring::SignInFailures => self.failures_end(now).await?,
        };
        let deleted: Vec<(i64,)> = self
            .write(|| async {
                let mut tx = self.begin().await?;
                let purge = tx.query(sql).bind(from.0).bind(before.0).bind(i64::from(count));
                let deleted = purge.fetch_all().await?;
                tx.commit().await?;
                Ok(deleted)
            })
            .await?;
        let up_to = deleted.iter().max().map_or(from, |(end,)| Timestamp(*end));
        Ok(Purged { rows: deleted.len(), up_to })
    }
}
