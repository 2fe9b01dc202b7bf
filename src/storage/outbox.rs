//! The outbox: mails to be sent. One replica sends at a time.

use super::{
    Storage, StorageError,
    query::Tx,
    user_row::{Account, AccountRow, user_columns},
};
use crate::domain::{MailKind, QueuedMail, Seconds, Timestamp, UserId};

/// For one address and kind, one mail in this time.
const MAIL_INTERVAL: Seconds = Seconds(60);

/// How long a code is valid, and so how long a row that is done stays.
pub const CODES_LAST: Seconds = Seconds(60 * 60);

impl Tx {
    /// Queues a mail, unless it is one that a client can ask for and the address got one of its kind in the last minute. Every
    /// notice is sent.
    pub(super) async fn queue_mail(
        &mut self,
        kind: MailKind,
        address: &str,
        now: Timestamp,
    ) -> Result<(), sqlx::Error> {
        const SQL: &str = r"
            INSERT INTO outbox (kind, address, at, queued_at, next_try_at, tries, is_done)
            SELECT $1, $2, $3, $3, $3, 0, FALSE
            WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE address = $2 AND kind = $1 AND at > $4 AND queued_at > $4)
            ON CONFLICT DO NOTHING";
        let since = if kind.is_notice() { Timestamp(i64::MAX) } else { now - MAIL_INTERVAL };
        let insert = self.query(SQL).bind(kind.name()).bind(address).bind(now.0);
        insert.bind(since.0).execute().await.map(drop)
    }
}

impl Storage {
    /// Queues a mail to an address, whether or not it has an account.
    pub async fn queue_mail(&self, kind: MailKind, address: &str, now: Timestamp) -> Result<(), StorageError> {
        self.write(|| async {
            let mut tx = self.begin().await?;
            tx.queue_mail(kind, address, now).await?;
            tx.commit().await
        })
        .await
    }

    /// The mail that is due first.
    pub async fn due_mail(&self, now: Timestamp) -> Result<Option<QueuedMail>, StorageError> {
        const SQL: &str = r"
            SELECT id, kind, address, queued_at, tries FROM outbox
            WHERE NOT is_done AND next_try_at <= $1
            ORDER BY next_try_at
            LIMIT 1";
        let row: Option<(i64, String, String, i64, i64)> = self.read_one(SQL, |query| query.bind(now.0)).await?;
        Ok(row.and_then(|(id, kind, address, queued_at, tries)| {
            let (kind, tries) = (kind.parse().ok()?, u32::try_from(tries).unwrap_or(u32::MAX));
            Some(QueuedMail { id, kind, address, queued_at: Timestamp(queued_at), tries })
        }))
    }

    /// Becomes or stays the replica that sends mail, until `until`; `false` while another one is.
    pub async fn take_mail_lease(&self, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StorageError> {
        const SQL: &str = r"
            UPDATE leases SET holder = $1, held_until = $3
            WHERE name = 'mail' AND (holder = $1 OR held_until <= $2)";
        self.write(|| async {
            let mut tx = self.begin().await?;
            let taken = tx.query(SQL).bind(holder).bind(now.0).bind(until.0).execute().await?;
            tx.commit().await?;
            Ok(taken > 0)
        })
        .await
    }

    /// Notes that a mail was sent at `now`, the time of its code, or needs not be sent.
    pub async fn finish_mail(&self, id: i64, now: Timestamp) -> Result<(), StorageError> {
        self.update_mail("UPDATE outbox SET is_done = TRUE, at = $2 WHERE id = $1", id, now).await
    }

    /// Notes that a mail could not be sent, and when to try again.
    pub async fn postpone_mail(&self, id: i64, next_try_at: Timestamp) -> Result<(), StorageError> {
        self.update_mail("UPDATE outbox SET tries = tries + 1, next_try_at = $2 WHERE id = $1", id, next_try_at).await
    }

    async fn update_mail(&self, sql: &'static str, id: i64, time: Timestamp) -> Result<(), StorageError> {
        self.write(|| async {
            let mut tx = self.begin().await?;
            tx.query(sql).bind(id).bind(time.0).execute().await?;
            tx.commit().await
        })
        .await
    }

    /// The times of the codes of this kind to this address that are still valid.
    pub async fn mail_times(
        &self,
        kind: MailKind,
        address: &str,
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, StorageError> {
        const SQL: &str = r"
            SELECT at FROM outbox
            WHERE address = $1 AND kind = $2 AND at > $3 AND is_done
            ORDER BY at DESC
            LIMIT 60";
        // PostgreSQL refuses NUL in text.
        if address.contains('\0') {
            return Ok(Vec::new());
        }
        let rows: Vec<(i64,)> =
            self.read_all(SQL, |query| query.bind(address).bind(kind.name()).bind((now - CODES_LAST).0)).await?;
        Ok(rows.into_iter().map(|(at,)| Timestamp(at)).collect())
    }

    /// The account with this e-mail.
    pub async fn account_by_email(&self, email_key: &str) -> Result<Option<Account>, StorageError> {
        const SQL: &str = concat!(
            "SELECT ",
            user_columns!(),
            ", users.password_hash FROM users WHERE COALESCE(email_key, email) = $1"
        );
        if email_key.contains('\0') {
            return Ok(None);
        }
        let row: Option<AccountRow> = self.read_one(SQL, |query| query.bind(email_key)).await?;
        Ok(row.map(Account::from))
    }

    /// The account with this id.
    pub async fn account(&self, id: UserId) -> Result<Option<Account>, StorageError> {
        const SQL: &str = concat!("SELECT ", user_columns!(), ", users.password_hash FROM users WHERE id = $1");
        let row: Option<AccountRow> = self.read_one(SQL, |query| query.bind(id.0)).await?;
        Ok(row.map(Account::from))
    }
}
