//! Deletes what has expired, a few rows at a time, so that a sign-in waits for no more than one small batch.

use super::{CODES_LAST, FAILURES_LAST, Storage, StorageError};
use crate::domain::{Seconds, Timestamp};

/// How long the network of a client is known after the end of its last session.
const NETWORKS_LAST: Seconds = Seconds(90 * 24 * 60 * 60);

/// The sessions of a batch: those with an end from `$1` to before `$2`.
macro_rules! expired_sessions {
    () => {
        "SELECT id, user_id, network, expires_at FROM sessions
         WHERE expires_at >= $1 AND expires_at < $2
         ORDER BY expires_at
         LIMIT $3"
    };
}

/// Deletes at most `$3` rows, the oldest first, whose `$time` is at least `$1` and less than `$2`. `$key` names the
/// columns of the primary key.
///
/// When the statement had to wait for a transaction that renewed a row, PostgreSQL checks only the outer conditions on
/// the new row. So the time is in both, and the row stays. With `+ 0` the outer ones cannot use the index of the time.
macro_rules! delete_expired {
    ($table:literal, $key:literal, $time:literal) => {
        delete_expired!($table, $key, $time, "TRUE")
    };
    ($table:literal, $key:literal, $time:literal, $condition:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE (",
            $key,
            ") IN (SELECT ",
            $key,
            " FROM ",
            $table,
            " WHERE ",
            $condition,
            " AND ",
            $time,
            " >= $1 AND ",
            $time,
            " < $2 ORDER BY ",
            $time,
            " LIMIT $3) AND ",
            $time,
            " + 0 >= $1 AND ",
            $time,
            " + 0 < $2 RETURNING ",
            $time
        )
    };
}

/// A table whose rows expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiring {
    /// Sessions, ended or not, whose last access token has expired.
    Sessions,
    /// Revocations whose access tokens have all expired, except the last row, by which followers find their place.
    Revocations,
    /// Failed sign-ins that no longer count, and the oldest ones of a full table.
    SignInFailures,
    /// Failed sign-ins of a time that is far away: they were counted by a clock that has been set back.
    FutureFailures,
    /// Networks without a session for a long time.
    KnownNetworks,
    /// Entries of the audit that are older than `audit.keep`.
    Audit,
    /// Mails that were sent, and whose codes have expired.
    Outbox,
    /// API keys whose last access token has expired.
    ApiKeys,
}

impl Expiring {
    pub const ALL: [Self; 8] = [
        Self::Sessions,
        Self::Revocations,
        Self::SignInFailures,
        Self::FutureFailures,
        Self::KnownNetworks,
        Self::Audit,
        Self::Outbox,
        Self::ApiKeys,
    ];

    /// The table's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Revocations => "revocations",
            Self::SignInFailures | Self::FutureFailures => "sign_in_failures",
            Self::KnownNetworks => "known_networks",
            Self::Audit => "audit",
            Self::Outbox => "outbox",
            Self::ApiKeys => "api_keys",
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
        const KEEP_NETWORKS: &str = concat!(
            r"
            INSERT INTO known_networks (user_id, network, last_seen_at)
            SELECT user_id, network, MAX(expires_at) FROM (",
            expired_sessions!(),
            r") AS expired
            WHERE network IS NOT NULL
            GROUP BY user_id, network
            ON CONFLICT (user_id, network) DO UPDATE
            SET last_seen_at = CASE
                WHEN known_networks.last_seen_at > excluded.last_seen_at THEN known_networks.last_seen_at
                ELSE excluded.last_seen_at
            END"
        );
        // While another replica purges, these can be other sessions than those of the statement before. A session whose
        // network was not kept stays for the next batch.
        const SESSIONS: &str = concat!(
            r"
            DELETE FROM sessions
            WHERE id IN (
                SELECT id FROM (",
            expired_sessions!(),
            r") AS expired
                WHERE network IS NULL OR EXISTS (
                    SELECT 1 FROM known_networks
                    WHERE known_networks.user_id = expired.user_id AND known_networks.network = expired.network
                      AND known_networks.last_seen_at >= expired.expires_at
                )
            )
            RETURNING expires_at"
        );
        const REVOCATIONS: &str =
            delete_expired!("revocations", "seq, value", "ended_at", "seq < (SELECT seq FROM revocation_feed)");
        const SIGN_IN_FAILURES: &str = delete_expired!("sign_in_failures", "account, is_known", "last_failed_at");
        const KNOWN_NETWORKS: &str = delete_expired!("known_networks", "user_id, network", "last_seen_at");
        const AUDIT: &str = delete_expired!("audit", "id", "at");
        const OUTBOX: &str = delete_expired!("outbox", "id", "at", "is_done");
        const API_KEYS: &str = delete_expired!("api_keys", "id", "expires_at");
        let all = Timestamp(i64::MIN);
        let (sql, start, end) = match what {
            Expiring::Sessions => (SESSIONS, all, self.revoked.oldest_relevant(now)),
            Expiring::Revocations => (REVOCATIONS, all, self.revoked.oldest_relevant(now)),
            Expiring::SignInFailures => (SIGN_IN_FAILURES, all, self.failures_end(now).await?),
            Expiring::FutureFailures => (SIGN_IN_FAILURES, now + FAILURES_LAST, Timestamp(i64::MAX)),
            Expiring::KnownNetworks => (KNOWN_NETWORKS, all, now - NETWORKS_LAST),
            Expiring::Audit => (AUDIT, all, now - self.audit_keep),
            Expiring::Outbox => (OUTBOX, all, now - CODES_LAST),
            Expiring::ApiKeys => (API_KEYS, all, self.revoked.oldest_relevant(now)),
        };
        let from = from.max(start);
        let deleted: Vec<(i64,)> = self
            .write(|| async {
                let mut tx = self.begin().await?;
                if what == Expiring::Sessions {
                    tx.query(KEEP_NETWORKS).bind(from.0).bind(end.0).bind(i64::from(count)).execute().await?;
                }
                let deleted = tx.query(sql).bind(from.0).bind(end.0).bind(i64::from(count)).fetch_all().await?;
                tx.commit().await?;
                Ok(deleted)
            })
            .await?;
        let up_to = deleted.iter().max().map_or(from, |(end,)| Timestamp(*end));
        Ok(Purged { rows: deleted.len(), up_to })
    }
}
