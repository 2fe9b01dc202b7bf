//! Users: rows, look-ups and changes.

use super::{
    Storage, StorageError,
    query::Query,
    revocation::Claim,
    user_row::{UserRow, user_columns},
};
use crate::domain::{
    Email, Limit, LoginName, Name, NewUser, Page, PasswordHash, Timestamp, User, UserCursor, UserId, Username,
};

/// The outcome of creating a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    User(User),
    EmailTaken,
    UsernameTaken,
}

/// The outcome of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Updated {
    User(User),
    UsernameTaken,
    /// The user was deleted or deactivated meanwhile.
    Gone,
}

/// The changes that a user makes to its own row; `None` leaves a column as it is.
#[derive(Debug, Clone, Default)]
pub struct ProfileChange {
    pub username: Option<Username>,
    pub first_name: Option<Name>,
    pub last_name: Option<Name>,
}

/// What a sign-in needs to know of the account that it names.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub id: UserId,
    pub password_hash: PasswordHash,
    pub is_active: bool,
    /// Whether the account has the maximum number of sessions.
    pub has_max_sessions: bool,
}

/// How an operator names a user.
#[derive(Debug, Clone)]
pub enum UserRef {
    Id(UserId),
    Name(LoginName),
}

// `COALESCE(email_key, email)` is the key that e-mails are compared and ordered by: exactly the expression of an index.

impl Storage {
    /// Stores a new, active user. If calls with the same e-mail run concurrently, the unique index lets exactly one
    /// create it.
    pub async fn create_user(
        &self,
        user: &NewUser,
        hash: &PasswordHash,
        now: Timestamp,
    ) -> Result<Created, StorageError> {
        const INSERT: &str = concat!(
            r"
            INSERT INTO users (email, username, username_key, password_hash, first_name, last_name,
                is_active, is_staff, is_superuser, is_verified, created_at, email_key)
            VALUES ($1, $2, $3, $4, $5, $6, TRUE, $7, $7, FALSE, $8, $9)
            ON CONFLICT DO NOTHING
            RETURNING ",
            user_columns!()
        );
        let row: Option<UserRow> = self
            .write(|| async {
                let mut tx = self.begin().await?;
                let row = tx
                    .query(INSERT)
                    .bind(user.email.as_str())
                    .bind(user.username.as_str())
                    .bind(user.username.key())
                    .bind(hash.as_str())
                    .bind(user.first_name.as_str())
                    .bind(user.last_name.as_str())
                    .bind(user.is_superuser)
                    .bind(now.0)
                    .bind(user.email.key())
                    .fetch_optional()
                    .await?;
                tx.commit().await?;
                Ok(row)
            })
            .await?;
        Ok(match row {
            Some(row) => Created::User(row.into()),
            None if self.has_email(&user.email).await? => Created::EmailTaken,
            None => Created::UsernameTaken,
        })
    }

    async fn has_email(&self, email: &Email) -> Result<bool, StorageError> {
        const SQL: &str = "SELECT id FROM users WHERE COALESCE(email_key, email) = $1";
        let user: Option<(i64,)> = self.read_one(SQL, |query| query.bind(email.key())).await?;
        Ok(user.is_some())
    }

    /// The account that a sign-in names, active or not, and whether it has `max_sessions` at `now`.
    pub async fn credentials(
        &self,
        login: &LoginName,
        max_sessions: u32,
        now: Timestamp,
    ) -> Result<Option<Credentials>, StorageError> {
        // An ended session counts as expired, so that the index alone answers the count.
        // `+ 0`: SQLite prepares a statement again each time a number is bound to `LIMIT`, but not to an expression.
        macro_rules! account_where {
            ($key:expr) => {
                concat!(
                    r"
                    SELECT id, password_hash, is_active, (
                        SELECT COUNT(*) FROM (
                            SELECT 1 AS one FROM sessions
                            WHERE user_id = users.id AND expires_at > $2
                            LIMIT $3 + 0
                        ) AS alive
                    )
                    FROM users
                    WHERE ",
                    $key,
                    " = $1"
                )
            };
        }
        const BY_EMAIL: &str = account_where!("COALESCE(email_key, email)");
        const BY_EXACT_EMAIL: &str = account_where!("email");
        const BY_USERNAME: &str = account_where!("username_key");
        let Some(key) = login.key() else { return Ok(None) };
        let sql = match login {
            LoginName::Email { .. } => BY_EMAIL,
            LoginName::Username(_) => BY_USERNAME,
        };
        let max_sessions = i64::from(max_sessions);
        let row: Option<(i64, String, bool, i64)> = self
            .read(|| async {
                let mut connection = self.connection().await?;
                if let LoginName::Email { exact: Some(exact), .. } = login {
                    let query = connection.query(BY_EXACT_EMAIL).bind(exact.as_str()).bind(now.0).bind(max_sessions);
                    if let Some(row) = query.fetch_optional().await? {
                        return Ok(Some(row));
                    }
                }
                connection.query(sql).bind(key).bind(now.0).bind(max_sessions).fetch_optional().await
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
    pub async fn password_hash(&self, user: UserId) -> Result<Option<PasswordHash>, StorageError> {
        const SQL: &str = "SELECT password_hash FROM users WHERE id = $1";
        let row: Option<(String,)> = self.read_one(SQL, |query| query.bind(user.0)).await?;
        Ok(row.map(|(hash,)| PasswordHash::new(hash)))
    }

    /// One user.
    pub async fn find_user(&self, user: &UserRef) -> Result<Option<User>, StorageError> {
        const BY_ID: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1");
        const BY_EMAIL: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE COALESCE(email_key, email) = $1");
        const BY_USERNAME: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE username_key = $1");
        let login = match user {
            UserRef::Id(id) => {
                let row: Option<UserRow> = self.read_one(BY_ID, |query| query.bind(id.0)).await?;
                return Ok(row.map(User::from));
            }
            UserRef::Name(login) => login,
        };
        let sql = match login {
            LoginName::Email { .. } => BY_EMAIL,
            LoginName::Username(_) => BY_USERNAME,
        };
        let Some(key) = login.key() else { return Ok(None) };
        let row: Option<UserRow> = self.read_one(sql, |query| query.bind(key)).await?;
        Ok(row.map(User::from))
    }

    /// A page of users. Both orders follow an index from a key, so that the last page costs as much as the first.
    pub async fn list_users(&self, cursor: &UserCursor, limit: Limit) -> Result<Page<User>, StorageError> {
        const BY_ID: &str = concat!(
            "SELECT ",
            user_columns!(),
            r"
            FROM users
            WHERE id > $1
            ORDER BY id
            LIMIT $2"
        );
        // A prefix is a range: LIKE does not use the index on every database, and `%` in the prefix would be a wildcard.
        const BY_EMAIL: &str = concat!(
            "SELECT ",
            user_columns!(),
            r"
            FROM users
            WHERE COALESCE(email_key, email) >= $1
              AND COALESCE(email_key, email) < $2
              AND COALESCE(email_key, email) > $3
            ORDER BY COALESCE(email_key, email)
            LIMIT $4"
        );
        let one_more = limit.get() + 1;
        let rows: Vec<UserRow> = match cursor {
            UserCursor::ById { after } => self.read_all(BY_ID, |query| query.bind(after.0).bind(one_more)).await?,
            UserCursor::ByEmail { prefix, after } => {
                let after = after.as_deref().unwrap_or_default();
                self.read_all(BY_EMAIL, |query| {
                    let end = format!("{prefix}{}", char::MAX);
                    query.bind(prefix.as_str()).bind(end).bind(after).bind(one_more)
                })
                .await?
            }
        };
        Ok(Page::cut(rows.into_iter().map(User::from).collect(), limit))
    }

    /// Changes the names of a user.
    pub async fn update_profile(&self, id: UserId, change: &ProfileChange) -> Result<Updated, StorageError> {
        const SQL: &str = concat!(
            r"
            UPDATE users
            SET username = COALESCE($2, username), username_key = COALESCE($3, username_key),
                first_name = COALESCE($4, first_name), last_name = COALESCE($5, last_name)
            WHERE id = $1 AND is_active
            RETURNING ",
            user_columns!()
        );
        self.write(|| async {
            let mut tx = self.begin().await?;
            let row: Result<Option<UserRow>, sqlx::Error> = tx
                .query(SQL)
                .bind(id.0)
                .bind(change.username.as_ref().map(Username::as_str))
                .bind(change.username.as_ref().map(Username::key))
                .bind(change.first_name.as_ref().map(Name::as_str))
                .bind(change.last_name.as_ref().map(Name::as_str))
                .fetch_optional()
                .await;
            match row {
                Ok(row) => {
                    tx.commit().await?;
                    Ok(row.map_or(Updated::Gone, |row| Updated::User(row.into())))
                }
                // The username is the only unique column that this statement writes.
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                    tx.rollback().await?;
                    Ok(Updated::UsernameTaken)
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Sets a password and ends every session of its user: a session that began with the old password must not
    /// continue.
    pub async fn set_password(
        &self,
        id: UserId,
        hash: &PasswordHash,
        now: Timestamp,
    ) -> Result<Option<User>, StorageError> {
        const SQL: &str = concat!("UPDATE users SET password_hash = $2 WHERE id = $1 RETURNING ", user_columns!());
        self.change_and_end_sessions(SQL, |query| query.bind(id.0).bind(hash.as_str()), now).await
    }

    /// Activates a user. The sessions that ended with its deactivation stay ended.
    pub async fn activate(&self, id: UserId) -> Result<Option<User>, StorageError> {
        const SQL: &str = concat!("UPDATE users SET is_active = TRUE WHERE id = $1 RETURNING ", user_columns!());
        let row: Option<UserRow> = self
            .write(|| async {
                let mut tx = self.begin().await?;
                let row = tx.query(SQL).bind(id.0).fetch_optional().await?;
                tx.commit().await?;
                Ok(row)
            })
            .await?;
        Ok(row.map(User::from))
    }

    /// Deactivates a user and ends its sessions.
    pub async fn deactivate(&self, id: UserId, now: Timestamp) -> Result<Option<User>, StorageError> {
        const SQL: &str = concat!("UPDATE users SET is_active = FALSE WHERE id = $1 RETURNING ", user_columns!());
        self.change_and_end_sessions(SQL, |query| query.bind(id.0), now).await
    }

    /// Runs an `UPDATE` of one user and ends the user's sessions; `None`, and nothing is written, when it matches no user.
    async fn change_and_end_sessions(
        &self,
        sql: &'static str,
        bind: impl Fn(Query<'_>) -> Query<'_>,
        now: Timestamp,
    ) -> Result<Option<User>, StorageError> {
        self.write(|| async {
            let mut ending = self.begin_ending(Claim::Session).await?;
            let row: Option<UserRow> = bind(ending.query(sql)).fetch_optional().await?;
            let Some(user) = row.map(User::from) else {
                ending.rollback().await?;
                return Ok(None);
            };
            let ended = self.end_all_sessions(&mut ending, user.id, now).await?;
            ending.commit(&ended).await?;
            Ok(Some(user))
        })
        .await
    }

    /// Deletes a user and its sessions; `false` when there is no such user.
    pub async fn delete_user(&self, id: UserId, now: Timestamp) -> Result<bool, StorageError> {
        // Deactivates the user first: a sign-in at the same moment has committed its session by then, or begins none.
        const DEACTIVATE: &str = "UPDATE users SET is_active = FALSE WHERE id = $1";
        const DELETE: &str = "DELETE FROM users WHERE id = $1";
        self.write(|| async {
            let mut ending = self.begin_ending(Claim::Session).await?;
            ending.query(DEACTIVATE).bind(id.0).execute().await?;
            let ended = self.end_all_sessions(&mut ending, id, now).await?;
            let deleted = ending.query(DELETE).bind(id.0).execute().await?;
            ending.commit(&ended).await?;
            Ok(deleted > 0)
        })
        .await
    }

    /// Whether there is a superuser, active or not: a restart must not replace a deactivated superuser.
    pub async fn has_superuser(&self) -> Result<bool, StorageError> {
        const SQL: &str = "SELECT COUNT(*) FROM users WHERE is_superuser";
        let count: Option<(i64,)> = self.read_one(SQL, |query| query).await?;
        Ok(count.is_some_and(|(count,)| count > 0))
    }

    /// Makes the user with this e-mail a superuser with this password; `None` when there is a superuser already.
    /// Ends the user's sessions: an attacker may have signed up under the operator's address before the operator did.
    pub async fn promote(
        &self,
        email: &Email,
        hash: &PasswordHash,
        now: Timestamp,
    ) -> Result<Option<User>, StorageError> {
        const SQL: &str = concat!(
            r"
            UPDATE users
            SET password_hash = $2, is_active = TRUE, is_staff = TRUE, is_superuser = TRUE
            WHERE COALESCE(email_key, email) = $1 AND NOT EXISTS (SELECT 1 FROM users AS u WHERE u.is_superuser)
            RETURNING ",
            user_columns!()
        );
        self.change_and_end_sessions(SQL, |query| query.bind(email.key()).bind(hash.as_str()), now).await
    }
}
