//! API keys, and the hashes of their secrets. Ending a key deletes its row; the purge deletes the rows of expired keys.

use super::{
    Storage, StorageError,
    revocation::{Claim, EndSessions, Ending, Revocation, revocations_at},
    sessions::is_alive,
    user_row::{UserRow, user_columns},
};
use crate::domain::{
    Action, ApiKey, AuditContext, MailKind, Outcome, PasswordHash, SessionId, Timestamp, User, UserId,
};
use uuid::Uuid;

/// Deletes the keys that a condition selects. Returns for each its id, and the time of its last use or of its creation.
macro_rules! end_keys_where {
    ($condition:literal) => {
        EndSessions(concat!(
            "DELETE FROM api_keys WHERE ",
            $condition,
            " RETURNING id, COALESCE(last_used_at, created_at)"
        ))
    };
}

#[derive(sqlx::FromRow)]
struct ApiKeyRow {
    api_key_id: Uuid,
    name: String,
    audience: Option<String>,
    key_created_at: i64,
    expires_at: Option<i64>,
    last_used_at: Option<i64>,
}

/// The columns of [`ApiKeyRow`], with names that [`UserRow`] does not have.
macro_rules! key_columns {
    () => {
        "api_keys.id AS api_key_id, api_keys.name, api_keys.audience, api_keys.created_at AS key_created_at, \
         api_keys.expires_at, api_keys.last_used_at"
    };
}

impl From<ApiKeyRow> for ApiKey {
    fn from(row: ApiKeyRow) -> Self {
        Self {
            id: SessionId(row.api_key_id),
            name: row.name,
            audience: row.audience,
            created_at: Timestamp(row.key_created_at),
            expires_at: row.expires_at.map(Timestamp),
            last_used_at: row.last_used_at.map(Timestamp),
        }
    }
}

#[derive(sqlx::FromRow)]
struct HolderRow {
    #[sqlx(flatten)]
    user: UserRow,
    #[sqlx(flatten)]
    key: ApiKeyRow,
}

/// The outcome of creating an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiKeyCreated {
    Created,
    /// The user has the maximum number of keys.
    TooMany,
    /// The verified password is no longer that of the user, the user is inactive, or the session has ended.
    Refused,
}

impl Storage {
    /// Stores a new key of a user whose password matched the hash `verified`, unless the user has `max` live keys, and
    /// queues a mail about it. The session, or the API key, of the request must still be alive: after a sign-out by
    /// staff while the password was hashed, no new key may remain.
    pub async fn create_api_key(
        &self,
        (user, session): (&User, SessionId),
        verified: &PasswordHash,
        key: &ApiKey,
        secret_sha256: &[u8],
        max: u32,
        context: &AuditContext,
    ) -> Result<ApiKeyCreated, StorageError> {
        // Also locks the user: of two requests at the limit, the second counts the key of the first, and a deactivation
        // ends every key that was made before it.
        const LOCK: &str = "UPDATE users SET is_active = is_active WHERE id = $1 AND is_active AND password_hash = $2";
        // A statement of its own: in PostgreSQL it sees what was committed while the first one waited for the lock.
        const COUNT: &str = concat!(
            "SELECT (SELECT COUNT(*) FROM api_keys WHERE user_id = $1 AND (expires_at IS NULL OR expires_at > $2)), ",
            is_alive!("$3", "$1")
        );
        const INSERT: &str = r"
            INSERT INTO api_keys (id, user_id, name, secret_sha256, audience, created_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        self.write(|| async {
            let mut tx = self.begin().await?;
            if tx.query(LOCK).bind(user.id.0).bind(verified.as_str()).execute().await? == 0 {
                tx.rollback().await?;
                return Ok(ApiKeyCreated::Refused);
            }
            let count = tx.query(COUNT).bind(user.id.0).bind(context.at.0).bind(session.0);
            let (count, is_alive): (i64, bool) = count.fetch_one().await?;
            if !is_alive {
                tx.rollback().await?;
                return Ok(ApiKeyCreated::Refused);
            }
            if count >= i64::from(max) {
                tx.rollback().await?;
                return Ok(ApiKeyCreated::TooMany);
            }
            let insert = tx.query(INSERT).bind(key.id.0).bind(user.id.0).bind(key.name.as_str()).bind(secret_sha256);
            let insert = insert.bind(key.audience.as_deref()).bind(key.created_at.0);
            insert.bind(key.expires_at.map(|end| end.0)).execute().await?;
            tx.record(Action::ApiKeyCreate, Outcome::Ok, Some(user.id), context).await?;
            if self.sends_mail {
                tx.queue_mail(MailKind::ApiKeyCreated, user.email.as_str(), context.at).await?;
            }
            tx.commit().await?;
            Ok(ApiKeyCreated::Created)
        })
        .await
    }

    /// The live key with this hash, and its user; `None` also if the user is inactive.
    pub async fn api_key(&self, secret_sha256: &[u8], now: Timestamp) -> Result<Option<(User, ApiKey)>, StorageError> {
        const SQL: &str = concat!(
            "SELECT ",
            user_columns!(),
            ", ",
            key_columns!(),
            r"
            FROM api_keys, users
            WHERE api_keys.secret_sha256 = $1 AND (api_keys.expires_at IS NULL OR api_keys.expires_at > $2)
              AND users.id = api_keys.user_id AND users.is_active"
        );
        let row: Option<HolderRow> = self.read_one(SQL, |query| query.bind(secret_sha256).bind(now.0)).await?;
        Ok(row.map(|row| (row.user.into(), row.key.into())))
    }

    /// Records that a key was used.
    pub async fn touch_api_key(&self, id: SessionId, now: Timestamp) -> Result<(), StorageError> {
        const SQL: &str =
            "UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";
        self.write(|| async {
            let mut tx = self.begin().await?;
            tx.query(SQL).bind(id.0).bind(now.0).execute().await?;
            tx.commit().await
        })
        .await
    }

    /// The live keys of a user, the oldest first.
    pub async fn list_api_keys(&self, user: UserId, now: Timestamp) -> Result<Vec<ApiKey>, StorageError> {
        const SQL: &str = concat!(
            "SELECT ",
            key_columns!(),
            r"
            FROM api_keys
            WHERE user_id = $1 AND (expires_at IS NULL OR expires_at > $2)
            ORDER BY created_at, id"
        );
        let rows: Vec<ApiKeyRow> = self.read_all(SQL, |query| query.bind(user.0).bind(now.0)).await?;
        Ok(rows.into_iter().map(ApiKey::from).collect())
    }

    /// Ends a key of a user, and its access tokens; `false` if the user has no such key.
    pub async fn end_api_key(&self, user: UserId, id: SessionId, context: &AuditContext) -> Result<bool, StorageError> {
        const FIND: &str = "SELECT id FROM api_keys WHERE id = $1 AND user_id = $2";
        const END: EndSessions = end_keys_where!("id = $1 AND user_id = $2");
        // A look-up first: a client that sends random ids must not lock the feed's counter.
        let found: Option<(Uuid,)> = self.read_one(FIND, |query| query.bind(id.0).bind(user.0)).await?;
        if found.is_none() {
            return Ok(false);
        }
        self.write(|| async {
            let mut ending = self.begin_ending(Claim::Session).await?;
            let ended = ending.end(END).bind(id.0).bind(user.0).fetch_all().await?;
            if ended.is_empty() {
                ending.rollback().await?;
                return Ok(false);
            }
            ending.record(Action::ApiKeyDelete, Outcome::Ok, Some(user), context).await?;
            ending.commit(&revocations_at(context.at, ended)).await?;
            Ok(true)
        })
        .await
    }
}

/// Ends every key of a user.
pub(super) async fn end_api_keys(
    ending: &mut Ending,
    user: UserId,
    now: Timestamp,
) -> Result<Vec<Revocation>, sqlx::Error> {
    const END_ALL: EndSessions = end_keys_where!("user_id = $1");
    Ok(revocations_at(now, ending.end(END_ALL).bind(user.0).fetch_all().await?))
}
