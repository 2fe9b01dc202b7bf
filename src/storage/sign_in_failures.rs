//! Failed sign-ins in a row, by account and by class of client address. All replicas count together.
//!
//! An account is an HMAC of the name that the client sent, so that the table reveals no name, and an unknown account is
//! counted like a known one. A success writes nothing unless there was a failure.

use super::{Storage, StorageError};
use crate::domain::{Action, AuditContext, LoginName, Seconds, Timestamp, UserId};

/// Failures are forgotten this long after the last one.
pub const FAILURES_LAST: Seconds = Seconds(24 * 60 * 60);

/// The table has at most about this many rows; then the purge deletes the oldest.
pub(super) const MAX_ROWS: i64 = 1_000_000;

/// An account and a class of addresses: those that have signed in to the account, or all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptKey {
    pub account: [u8; 32],
    pub is_known: bool,
}

/// Failures in a row: one at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    pub count: u32,
    pub last_at: Timestamp,
}

impl Failures {
    /// The sum of failures that are stored in two places.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { count: self.count.saturating_add(other.count), last_at: self.last_at.max(other.last_at) }
    }
}

impl Storage {
    /// Whether a client from `network` has signed in to the account that `login` names. The purge of sessions keeps their
    /// networks for some time.
    pub async fn knows_network(&self, login: &LoginName, network: &str) -> Result<bool, StorageError> {
        macro_rules! networks_of {
            ($key:literal) => {
                concat!(
                    "SELECT 1 FROM users WHERE ",
                    $key,
                    r" = $1 AND (
                        EXISTS (SELECT 1 FROM sessions WHERE user_id = users.id AND network = $2)
                        OR EXISTS (SELECT 1 FROM known_networks WHERE user_id = users.id AND network = $2)
                    )"
                )
            };
        }
        const BY_EMAIL: &str = networks_of!("COALESCE(email_key, email)");
        const BY_USERNAME: &str = networks_of!("username_key");
        let Some(key) = login.key() else { return Ok(false) };
        let sql = match login {
            LoginName::Email { .. } => BY_EMAIL,
            LoginName::Username(_) => BY_USERNAME,
        };
        let found: Option<(i32,)> = self.read_one(sql, |query| query.bind(key).bind(network)).await?;
        Ok(found.is_some())
    }

    /// The failures in a row; `None` without any.
    pub async fn sign_in_failures(&self, key: &AttemptKey) -> Result<Option<Failures>, StorageError> {
        const SQL: &str = r"
            SELECT failures, last_failed_at FROM sign_in_failures
            WHERE account = $1 AND is_known = $2";
        let row: Option<(i64, i64)> =
            self.read_one(SQL, |query| query.bind(&key.account[..]).bind(key.is_known)).await?;
        Ok(row.map(|(count, last_at)| Failures {
            count: u32::try_from(count).unwrap_or(u32::MAX),
            last_at: Timestamp(last_at),
        }))
    }

    /// Records a wrong password of an attempt to do `action`, and adds failures to those that are counted; those before a
    /// pause of [`FAILURES_LAST`] do not count.
    pub async fn record_wrong_password(
        &self,
        action: Action,
        subject: Option<UserId>,
        counted: Option<(&AttemptKey, Failures)>,
        context: &AuditContext,
    ) -> Result<(), StorageError> {
        const SQL: &str = r"
            INSERT INTO sign_in_failures (account, is_known, failures, last_failed_at)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (account, is_known) DO UPDATE
            SET failures = $3 + CASE WHEN sign_in_failures.last_failed_at > $5 THEN sign_in_failures.failures ELSE 0 END,
                last_failed_at = $4";
        self.write(|| async {
            let mut tx = self.begin().await?;
            if let Some((key, Failures { count, last_at })) = counted {
                let insert = tx.query(SQL).bind(&key.account[..]).bind(key.is_known).bind(i64::from(count));
                insert.bind(last_at.0).bind((last_at - FAILURES_LAST).0).execute().await?;
            }
            tx.record_failure(action, subject, context).await?;
            tx.commit().await
        })
        .await
    }

    /// Forgets the failures of accounts: of one class of addresses, or with `None` of both.
    pub async fn clear_sign_in_failures(&self, account: &[u8; 32], is_known: Option<bool>) -> Result<(), StorageError> {
        const SQL: &str = "DELETE FROM sign_in_failures WHERE account = $1 AND (is_known = $2 OR is_known = $3)";
        let (one, other) = is_known.map_or((true, false), |is_known| (is_known, is_known));
        self.write(|| async {
            let mut tx = self.begin().await?;
            tx.query(SQL).bind(&account[..]).bind(one).bind(other).execute().await?;
            tx.commit().await
        })
        .await
    }

    /// The time up to which the purge deletes failures: they are forgotten, or the table is full.
    pub(super) async fn failures_end(&self, now: Timestamp) -> Result<Timestamp, StorageError> {
        const SQL: &str = "SELECT last_failed_at FROM sign_in_failures ORDER BY last_failed_at DESC LIMIT 1 OFFSET $1";
        let full: Option<(i64,)> = self.read_one(SQL, |query| query.bind(MAX_ROWS)).await?;
        let forgotten = now - FAILURES_LAST;
        Ok(full.map_or(forgotten, |(oldest,)| forgotten.max(Timestamp(oldest + 1))))
    }
}
