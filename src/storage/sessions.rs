//! Sessions: begun by a sign-in, read by a refresh, ended once and for good.

use super::{
    Storage, StorageError, on,
    user_row::{UserRow, user_columns},
};
use crate::domain::{NewSession, PasswordHash, RefreshToken, SessionId, Timestamp, User, UserId};

/// Ends every session of the user `$1` at `$2`.
pub(super) const END_ALL: &str = "UPDATE sessions SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL";

/// What a refresh finds: the user as of now, and what the session says about the next access token.
#[derive(Debug, Clone)]
pub struct Refreshable {
    pub user: User,
    pub last_used_at: Timestamp,
    pub absolute_expires_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct RefreshableRow {
    #[sqlx(flatten)]
    user: UserRow,
    last_used_at: i64,
    absolute_expires_at: i64,
}

impl Storage {
    /// Begins a session for a user whose password was just found to be right; `rehashed` replaces an outdated hash.
    ///
    /// Hashing takes long enough for the password to be changed meanwhile. The session is therefore only begun
    /// while the hash that was verified is still the stored one and the user is active; `None` otherwise.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn begin_session(
        &self,
        user: UserId,
        verified: &PasswordHash,
        rehashed: Option<&PasswordHash>,
        session: &NewSession,
        now: Timestamp,
    ) -> Result<Option<User>, StorageError> {
        const SIGN_IN: &str = concat!(
            "UPDATE users SET last_login = $2, password_hash = $3 \
             WHERE id = $1 AND is_active AND password_hash = $4 RETURNING ",
            user_columns!()
        );
        const BEGIN: &str = "INSERT INTO sessions (id, user_id, generation, created_at, rotated_at, last_used_at, \
             expires_at, absolute_expires_at, user_agent, ip) VALUES ($1, $2, 0, $3, $3, $3, $4, $5, $6, $7)";
        on!(transaction self, |tx| {
            let row: Option<UserRow> = sqlx::query_as(SIGN_IN)
                .bind(user.0)
                .bind(now.0)
                .bind(rehashed.unwrap_or(verified).as_str())
                .bind(verified.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            let Some(row) = row else { return Ok(None) };
            sqlx::query(BEGIN)
                .bind(session.id.0)
                .bind(user.0)
                .bind(now.0)
                .bind(session.expires_at.0)
                .bind(session.absolute_expires_at.0)
                .bind(session.user_agent.as_deref())
                .bind(session.ip.as_deref())
                .execute(&mut *tx)
                .await?;
            Some(User::from(row))
        })
        .await
    }

    /// The session that a refresh token belongs to and its user, if both are alive: one query, so that no refresh
    /// can pass between the end of one and the look at the other.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn refreshable(&self, token: &RefreshToken, now: Timestamp) -> Result<Option<Refreshable>, StorageError> {
        const SQL: &str = concat!(
            "SELECT ",
            user_columns!(),
            ", sessions.last_used_at, sessions.absolute_expires_at FROM sessions, users \
             WHERE sessions.id = $1 AND sessions.user_id = $2 AND sessions.generation = $3 \
             AND sessions.revoked_at IS NULL AND sessions.expires_at > $4 AND sessions.absolute_expires_at > $4 \
             AND users.id = sessions.user_id AND users.is_active"
        );
        let row: Option<RefreshableRow> = on!(read self, |pool| {
            sqlx::query_as(SQL)
                .bind(token.session.0)
                .bind(token.user.0)
                .bind(token.generation)
                .bind(now.0)
                .fetch_optional(pool)
                .await
        })
        .await?;
        Ok(row.map(|row| Refreshable {
            user: row.user.into(),
            last_used_at: Timestamp(row.last_used_at),
            absolute_expires_at: Timestamp(row.absolute_expires_at),
        }))
    }

    /// Notes that a session was used.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn touch_session(&self, id: SessionId, now: Timestamp) -> Result<(), StorageError> {
        const SQL: &str = "UPDATE sessions SET last_used_at = $2 WHERE id = $1 AND last_used_at < $2";
        on!(write self, |pool| sqlx::query(SQL).bind(id.0).bind(now.0).execute(pool).await.map(drop)).await
    }

    /// The user whom an access token names, if user and session are alive.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn bearer(&self, user: UserId, session: SessionId) -> Result<Option<User>, StorageError> {
        const SQL: &str = concat!(
            "SELECT ",
            user_columns!(),
            " FROM sessions, users WHERE sessions.id = $1 AND sessions.user_id = $2 AND sessions.revoked_at IS NULL \
             AND users.id = sessions.user_id AND users.is_active"
        );
        let row: Option<UserRow> =
            on!(read self, |pool| sqlx::query_as(SQL).bind(session.0).bind(user.0).fetch_optional(pool).await).await?;
        Ok(row.map(User::from))
    }

    /// Ends a session. Ending it again, or one that is not there, changes nothing.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn end_session(&self, id: SessionId, now: Timestamp) -> Result<(), StorageError> {
        const SQL: &str = "UPDATE sessions SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
        on!(write self, |pool| sqlx::query(SQL).bind(id.0).bind(now.0).execute(pool).await.map(drop)).await
    }
}
