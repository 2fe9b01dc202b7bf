//! Users: rows, look-ups and changes.

use super::{
    Storage, StorageError,
    sessions::end_all,
    user_row::{UserRow, user_columns},
    work::on,
};
use crate::domain::{
    Email, Limit, LoginName, Name, NewUser, Page, PasswordHash, Timestamp, User, UserCursor, UserId, Username,
};

/// What became of a user that was to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    User(User),
    EmailTaken,
    UsernameTaken,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Updated {
    User(User),
    UsernameTaken,
    /// The user was deleted or shut out meanwhile.
    Gone,
}

/// What a user may change of itself; `None` leaves a member as it is.
#[derive(Debug, Clone, Default)]
pub struct ProfileChange {
    pub username: Option<Username>,
    pub first_name: Option<Name>,
    pub last_name: Option<Name>,
}

/// What a sign-in needs to know of the account that somebody claims to be.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub id: UserId,
    pub password_hash: PasswordHash,
    pub is_active: bool,
    /// Whether as many sessions of it are alive as there may be.
    pub has_max_sessions: bool,
}

/// How an operator names a user.
#[derive(Debug, Clone)]
pub enum Who {
    Id(UserId),
    Name(LoginName),
}

/// What e-mails are compared and ordered by: an index has it.
macro_rules! email_key {
    () => {
        "COALESCE(email_key, email)"
    };
}
pub(super) use email_key;

const INSERT: &str = concat!(
    "INSERT INTO users (email, username, username_key, password_hash, first_name, last_name, \
     is_active, is_staff, is_superuser, is_verified, created_at, email_key) \
     VALUES ($1, $2, $3, $4, $5, $6, TRUE, $7, $7, FALSE, $8, $9) ON CONFLICT DO NOTHING RETURNING ",
    user_columns!()
);

impl Storage {
    /// Stores a new, active user. Of many at once with one e-mail, exactly one is created: the unique index decides.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn create_user(
        &self,
        user: &NewUser,
        hash: &PasswordHash,
        now: Timestamp,
    ) -> Result<Created, StorageError> {
        let row: Option<UserRow> = on!(write self, |tx| {
            sqlx::query_as(INSERT)
                .bind(user.email.as_str())
                .bind(user.username.as_str())
                .bind(user.username.key())
                .bind(hash.as_str())
                .bind(user.first_name.as_str())
                .bind(user.last_name.as_str())
                .bind(user.is_superuser)
                .bind(now.0)
                .bind(user.email.own_key())
                .fetch_optional(&mut *tx)
                .await?
        })
        .await?;
        Ok(match row {
            Some(row) => Created::User(row.into()),
            None if self.has_email(&user.email).await? => Created::EmailTaken,
            None => Created::UsernameTaken,
        })
    }

    async fn has_email(&self, email: &Email) -> Result<bool, StorageError> {
        const SQL: &str = concat!("SELECT COUNT(*) FROM users WHERE ", email_key!(), " = $1");
        let count: i64 =
            on!(read self, |connection| sqlx::query_scalar(SQL).bind(email.key()).fetch_one(connection).await).await?;
        Ok(count > 0)
    }

    /// The account that somebody claims to be, active or not, and whether it has `max_sessions` at `now`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn credentials(
        &self,
        login: &LoginName,
        max_sessions: u32,
        now: Timestamp,
    ) -> Result<Option<Credentials>, StorageError> {
        // What has ended counts as expired, so that this can be counted in the index alone.
        // `+ 0`: SQLite prepares a statement anew each time a number is bound to `LIMIT`, and an expression is none.
        macro_rules! account {
            () => {
                "SELECT id, password_hash, is_active, (SELECT COUNT(*) FROM (SELECT 1 AS one FROM sessions \
                 WHERE user_id = users.id AND expires_at > $2 LIMIT $3 + 0) AS alive) FROM users WHERE "
            };
        }
        const BY_EMAIL: &str = concat!(account!(), email_key!(), " = $1");
        const BY_USERNAME: &str = concat!(account!(), "username_key = $1");
        let Some(key) = login.key() else { return Ok(None) };
        let sql = match login {
            LoginName::Email(_) => BY_EMAIL,
            LoginName::Username(_) => BY_USERNAME,
        };
        let max_sessions = i64::from(max_sessions);
        let row: Option<(i64, String, bool, i64)> = on!(read self, |connection| {
            sqlx::query_as(sql).bind(key).bind(now.0).bind(max_sessions).fetch_optional(connection).await
        })
        .await?;
        Ok(row.map(|(id, hash, is_active, sessions)| Credentials {
            id: UserId(id),
            password_hash: PasswordHash::new(hash),
            is_active,
            has_max_sessions: sessions >= max_sessions,
        }))
    }

    /// The hash of a user's password.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn password_hash(&self, user: UserId) -> Result<Option<PasswordHash>, StorageError> {
        const SQL: &str = "SELECT password_hash FROM users WHERE id = $1";
        let hash: Option<String> =
            on!(read self, |connection| sqlx::query_scalar(SQL).bind(user.0).fetch_optional(connection).await).await?;
        Ok(hash.map(PasswordHash::new))
    }

    /// One user.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn find_user(&self, who: &Who) -> Result<Option<User>, StorageError> {
        const BY_ID: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1");
        const BY_EMAIL: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE ", email_key!(), " = $1");
        const BY_USERNAME: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE username_key = $1");
        let row: Option<UserRow> = match who {
            Who::Id(id) => {
                on!(read self, |connection| sqlx::query_as(BY_ID).bind(id.0).fetch_optional(connection).await).await?
            }
            Who::Name(login) => {
                let Some(key) = login.key() else { return Ok(None) };
                let sql = match login {
                    LoginName::Email(_) => BY_EMAIL,
                    LoginName::Username(_) => BY_USERNAME,
                };
                on!(read self, |connection| sqlx::query_as(sql).bind(key).fetch_optional(connection).await).await?
            }
        };
        Ok(row.map(User::from))
    }

    /// A page of users. Both orders walk an index from a key, so that the last page costs what the first does.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn list_users(&self, cursor: &UserCursor, limit: Limit) -> Result<Page<User>, StorageError> {
        const BY_ID: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id > $1 ORDER BY id LIMIT $2");
        // A prefix is a range: LIKE would not use the index on every database, and `%` would mean something.
        const BY_EMAIL: &str = concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE ",
            email_key!(),
            " >= $1 AND ",
            email_key!(),
            " < $2 AND ",
            email_key!(),
            " > $3 ORDER BY ",
            email_key!(),
            " LIMIT $4"
        );
        let one_more = limit.get() + 1;
        let rows: Vec<UserRow> = match cursor {
            UserCursor::ById { after } => {
                on!(read self, |connection| sqlx::query_as(BY_ID).bind(after.0).bind(one_more).fetch_all(connection).await).await?
            }
            UserCursor::ByEmail { prefix, after } => {
                let end = format!("{prefix}{}", char::MAX);
                let after = after.as_deref().unwrap_or_default();
                on!(read self, |connection| {
                    sqlx::query_as(BY_EMAIL)
                        .bind(prefix.as_str())
                        .bind(end.as_str())
                        .bind(after)
                        .bind(one_more)
                        .fetch_all(connection)
                        .await
                })
                .await?
            }
        };
        Ok(Page::cut(rows.into_iter().map(User::from).collect(), limit))
    }

    /// Changes what a user may change of itself.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn update_profile(&self, id: UserId, change: &ProfileChange) -> Result<Updated, StorageError> {
        const SQL: &str = concat!(
            "UPDATE users SET username = COALESCE($2, username), username_key = COALESCE($3, username_key), \
             first_name = COALESCE($4, first_name), last_name = COALESCE($5, last_name) \
             WHERE id = $1 AND is_active RETURNING ",
            user_columns!()
        );
        on!(write self, |tx| {
            let row: Result<Option<UserRow>, sqlx::Error> = sqlx::query_as(SQL)
                .bind(id.0)
                .bind(change.username.as_ref().map(Username::as_str))
                .bind(change.username.as_ref().map(Username::key))
                .bind(change.first_name.as_ref().map(Name::as_str))
                .bind(change.last_name.as_ref().map(Name::as_str))
                .fetch_optional(&mut *tx)
                .await;
            match row {
                Ok(Some(row)) => Updated::User(row.into()),
                Ok(None) => Updated::Gone,
                // The username is the only unique column that this statement writes.
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Ok(Updated::UsernameTaken),
                Err(error) => return Err(error),
            }
        })
        .await
    }

    /// Sets a password and ends every session of its user: whoever knew the old one is out.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn set_password(
        &self,
        id: UserId,
        hash: &PasswordHash,
        now: Timestamp,
    ) -> Result<Option<User>, StorageError> {
        const SQL: &str = concat!("UPDATE users SET password_hash = $2 WHERE id = $1 RETURNING ", user_columns!());
        on!(end "sid" self, |tx| {
            let row: Option<UserRow> =
                sqlx::query_as(SQL).bind(id.0).bind(hash.as_str()).fetch_optional(&mut *tx).await?;
            (row.map(User::from), end_all!(self, tx, id, now))
        })
        .await
    }

    /// Lets a user in again. The sessions that ended when it was shut out do not come back.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn activate(&self, id: UserId) -> Result<Option<User>, StorageError> {
        const SQL: &str = concat!("UPDATE users SET is_active = TRUE WHERE id = $1 RETURNING ", user_columns!());
        let row: Option<UserRow> =
            on!(write self, |tx| sqlx::query_as(SQL).bind(id.0).fetch_optional(&mut *tx).await?).await?;
        Ok(row.map(User::from))
    }

    /// Shuts a user out and ends its sessions.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn deactivate(&self, id: UserId, now: Timestamp) -> Result<Option<User>, StorageError> {
        const SQL: &str = concat!("UPDATE users SET is_active = FALSE WHERE id = $1 RETURNING ", user_columns!());
        on!(end "sid" self, |tx| {
            let row: Option<UserRow> = sqlx::query_as(SQL).bind(id.0).fetch_optional(&mut *tx).await?;
            (row.map(User::from), end_all!(self, tx, id, now))
        })
        .await
    }

    /// Deletes a user and its sessions; whether there was one.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn delete_user(&self, id: UserId, now: Timestamp) -> Result<bool, StorageError> {
        // The user first: a sign-in at the same moment has begun its session by then, or begins none.
        const SHUT_OUT: &str = "UPDATE users SET is_active = FALSE WHERE id = $1";
        const DELETE: &str = "DELETE FROM users WHERE id = $1";
        on!(end "sid" self, |tx| {
            sqlx::query(SHUT_OUT).bind(id.0).execute(&mut *tx).await?;
            let ended = end_all!(self, tx, id, now);
            (sqlx::query(DELETE).bind(id.0).execute(&mut *tx).await?.rows_affected() > 0, ended)
        })
        .await
    }

    /// Whether there is a superuser, active or not: one that was shut out must not come back by a restart.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn has_superuser(&self) -> Result<bool, StorageError> {
        const SQL: &str = "SELECT COUNT(*) FROM users WHERE is_superuser";
        let count: i64 = on!(read self, |connection| sqlx::query_scalar(SQL).fetch_one(connection).await).await?;
        Ok(count > 0)
    }

    /// Makes the user with this e-mail a superuser with this password, unless there is a superuser by now.
    /// The sessions end: whoever signed up under that address before the operator did must not stay signed in.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn promote(
        &self,
        email: &Email,
        hash: &PasswordHash,
        now: Timestamp,
    ) -> Result<Option<User>, StorageError> {
        const SQL: &str = concat!(
            "UPDATE users SET password_hash = $2, is_active = TRUE, is_staff = TRUE, is_superuser = TRUE \
             WHERE ",
            email_key!(),
            " = $1 AND NOT EXISTS (SELECT 1 FROM users AS u WHERE u.is_superuser) RETURNING ",
            user_columns!()
        );
        on!(end "sid" self, |tx| {
            let row: Option<UserRow> =
                sqlx::query_as(SQL).bind(email.key()).bind(hash.as_str()).fetch_optional(&mut *tx).await?;
            let Some(user) = row.map(User::from) else { return Ok((None, Vec::new())) };
            let ended = end_all!(self, tx, user.id, now);
            (Some(user), ended)
        })
        .await
    }
}
