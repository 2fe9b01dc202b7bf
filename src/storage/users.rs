//! Users: rows, look-ups and changes.

use super::{
    Storage, StorageError,
    query::Tx,
    revocation::{Claim, Ending},
    user_row::{Account, AccountRow, UserRow, user_columns},
};
use crate::domain::{
    Action, AuditContext, Email, Limit, LoginName, MailKind, Name, NewUser, Outcome, Page, PasswordHash, Timestamp,
    User, UserChange, UserCursor, UserId, Username,
};

/// The outcome of creating a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    User(User),
    EmailTaken,
    UsernameTaken,
}

/// What became of a change that `E` may refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed<E> {
    User(User),
    NotFound,
    Refused(E),
    EmailTaken,
    UsernameTaken,
    /// It would take the rights of the last active superuser away.
    LastSuperuser,
}

/// What a decision about an account sees: both as they are in its transaction.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub account: Account,
    /// The user who asks for it; `None` for a command or a job, and if that user is deleted or inactive.
    pub actor: Option<User>,
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

/// What ends when a user is signed out everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignOutScope {
    /// For a sign-out by the user: programs with API keys continue.
    Sessions,
    /// For a sign-out by staff or an operator.
    SessionsAndApiKeys,
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
        context: &AuditContext,
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
        let created = self
            .write(|| async {
                let mut tx = self.begin().await?;
                let row: Option<UserRow> = tx
                    .query(INSERT)
                    .bind(user.email.as_str())
                    .bind(user.username.as_str())
                    .bind(user.username.key())
                    .bind(hash.as_str())
                    .bind(user.first_name.as_str())
                    .bind(user.last_name.as_str())
                    .bind(user.is_superuser)
                    .bind(context.at.0)
                    .bind(user.email.key())
                    .fetch_optional()
                    .await?;
                let created = row.map(User::from);
                if let Some(user) = &created {
                    tx.record(Action::UserCreate, Outcome::Ok, Some(user.id), context).await?;
                    if self.sends_mail {
                        tx.queue_mail(MailKind::VerifyEmail, user.email.key(), context.at).await?;
                    }
                }
                tx.commit().await?;
                Ok(created)
            })
            .await?;
        Ok(match created {
            Some(user) => Created::User(user),
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
        // A prefix is a range: LIKE does not use the index on every database, and `%` in the prefix would be a
        // wildcard.
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

    /// Begins a transaction, locks the user and calls `decide`. If there is no such user, or `decide` refuses, rolls
    /// back and returns that outcome.
    async fn begin_change<D, E>(
        &self,
        id: UserId,
        context: &AuditContext,
        decide: impl Fn(&Snapshot) -> Result<D, E>,
    ) -> Result<Result<(Ending, User, D), Changed<E>>, sqlx::Error> {
        let mut ending = self.begin_ending(Claim::Session).await?;
        let seen = lock(&mut ending, id, context).await?;
        let outcome = match seen.as_ref().map(decide).transpose() {
            Ok(decision) => seen.zip(decision).ok_or(Changed::NotFound),
            Err(refusal) => Err(Changed::Refused(refusal)),
        };
        match outcome {
            Ok((seen, decision)) => Ok(Ok((ending, seen.account.user, decision))),
            Err(outcome) => {
                ending.rollback().await?;
                Ok(Err(outcome))
            }
        }
    }

    /// Changes a user as `decide` says, which sees the account as it is now: nothing can change between its decision
    /// and the commit. Ends the user's sessions and API keys where the change says so.
    ///
    /// The feed's counter, which every such transaction locks, lets one after the other decide whether another active
    /// superuser is left.
    pub async fn change_user<E>(
        &self,
        id: UserId,
        context: &AuditContext,
        decide: impl Fn(&Snapshot) -> Result<UserChange, E>,
    ) -> Result<Changed<E>, StorageError> {
        const SQL: &str = concat!(
            r"
            UPDATE users
            SET email = COALESCE($2, email), email_key = COALESCE($3, email_key),
                username = COALESCE($4, username), username_key = COALESCE($5, username_key),
                first_name = COALESCE($6, first_name), last_name = COALESCE($7, last_name),
                is_active = COALESCE($8, is_active), is_staff = COALESCE($9, is_staff),
                is_superuser = COALESCE($10, is_superuser), is_verified = COALESCE($11, is_verified),
                claims = COALESCE($12, claims), password_hash = COALESCE($13, password_hash)
            WHERE id = $1
            RETURNING ",
            user_columns!()
        );
        self.write(|| async {
            let (mut ending, user, change) = match self.begin_change(id, context, &decide).await? {
                Ok(begun) => begun,
                Err(outcome) => return Ok(outcome),
            };
            if change.removes_superuser(&user) && !has_other_superuser(&mut ending, id).await? {
                ending.rollback().await?;
                return Ok(Changed::LastSuperuser);
            }
            let claims = change.claims.as_ref().map(serde_json::to_string).transpose().map_err(sqlx::Error::decode)?;
            let row: Result<UserRow, sqlx::Error> = ending
                .query(SQL)
                .bind(id.0)
                .bind(change.email.as_ref().map(Email::as_str))
                .bind(change.email.as_ref().map(Email::key))
                .bind(change.username.as_ref().map(Username::as_str))
                .bind(change.username.as_ref().map(Username::key))
                .bind(change.first_name.as_ref().map(Name::as_str))
                .bind(change.last_name.as_ref().map(Name::as_str))
                .bind(change.is_active)
                .bind(change.is_staff)
                .bind(change.is_superuser)
                .bind(change.is_verified)
                .bind(claims)
                .bind(change.password_hash.as_ref().map(PasswordHash::as_str))
                .fetch_one()
                .await;
            let changed: User = match row {
                Ok(row) => row.into(),
                // E-mail and username are the only unique columns that this statement writes.
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                    ending.rollback().await?;
                    let email = change.email.filter(|email| email.key() != user.email.key());
                    let is_email = match &email {
                        Some(email) => self.has_email(email).await.is_ok_and(|taken| taken),
                        None => false,
                    };
                    return Ok(if is_email { Changed::EmailTaken } else { Changed::UsernameTaken });
                }
                Err(error) => return Err(error),
            };
            for action in change.actions(&user) {
                ending.record(action, Outcome::Ok, Some(id), context).await?;
            }
            if self.sends_mail && change.password_hash.is_some() {
                ending.queue_mail(MailKind::PasswordChanged, user.email.as_str(), context.at).await?;
            }
            if self.sends_mail && changed.email.key() != user.email.key() {
                ending.queue_mail(MailKind::EmailChanged, user.email.as_str(), context.at).await?;
                if !changed.is_verified {
                    ending.queue_mail(MailKind::VerifyEmail, changed.email.key(), context.at).await?;
                }
            }
            let ended = if change.ends_sessions() {
                self.end_sessions_and_api_keys(&mut ending, id, context.at).await?
            } else {
                vec![]
            };
            ending.commit(&ended).await?;
            Ok(Changed::User(changed))
        })
        .await
    }

    /// Replaces the password hash `verified` of a user whose mail the client reads, verifies the address and ends every
    /// session and API key; `false`, and nothing changes, when hash or e-mail are no longer those of `user`.
    pub async fn reset_password(
        &self,
        user: &User,
        verified: &PasswordHash,
        new: &PasswordHash,
        context: &AuditContext,
    ) -> Result<bool, StorageError> {
        const SQL: &str = r"
            UPDATE users SET password_hash = $2, is_verified = TRUE
            WHERE id = $1 AND is_active AND password_hash = $3 AND COALESCE(email_key, email) = $4";
        self.write(|| async {
            let mut ending = self.begin_ending(Claim::Session).await?;
            let reset = ending.query(SQL).bind(user.id.0).bind(new.as_str()).bind(verified.as_str());
            if reset.bind(user.email.key()).execute().await? == 0 {
                ending.rollback().await?;
                return Ok(false);
            }
            ending.record(Action::PasswordReset, Outcome::Ok, Some(user.id), context).await?;
            if self.sends_mail {
                ending.queue_mail(MailKind::PasswordChanged, user.email.as_str(), context.at).await?;
            }
            let ended = self.end_sessions_and_api_keys(&mut ending, user.id, context.at).await?;
            ending.commit(&ended).await?;
            Ok(true)
        })
        .await
    }

    /// Verifies the e-mail of a user; `false` when it is verified already, or is no longer that of `user`.
    pub async fn verify_email(&self, user: &User, context: &AuditContext) -> Result<bool, StorageError> {
        const SQL: &str = r"
            UPDATE users SET is_verified = TRUE
            WHERE id = $1 AND is_active AND NOT is_verified AND COALESCE(email_key, email) = $2";
        self.write(|| async {
            let mut tx = self.begin().await?;
            if tx.query(SQL).bind(user.id.0).bind(user.email.key()).execute().await? == 0 {
                tx.rollback().await?;
                return Ok(false);
            }
            tx.record(Action::EmailVerify, Outcome::Ok, Some(user.id), context).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Sets the e-mail of a user whose password was right for the hash `verified`. A username that was the e-mail
    /// follows. [`Changed::Refused`] when the hash or the e-mail is no longer stored, or the user is inactive:
    /// otherwise a change that began before the owner set a new password would take the account away after it.
    pub async fn change_email(
        &self,
        user: &User,
        verified: &PasswordHash,
        email: &Email,
        context: &AuditContext,
    ) -> Result<Changed<()>, StorageError> {
        let is_same = email.key() == user.email.key();
        let decide = |seen: &Snapshot| {
            let Account { user: now, password_hash } = &seen.account;
            if !now.is_active || password_hash != verified || now.email != user.email {
                return Err(());
            }
            let follows = now.username.key() == now.email.key();
            Ok(UserChange {
                email: Some(email.clone()),
                username: follows.then(|| Username::of_email(email)),
                is_verified: (!is_same).then_some(false),
                ..UserChange::default()
            })
        };
        self.change_user(user.id, context, decide).await
    }

    /// Ends every session of a user whom `check` allows, and with [`SignOutScope::SessionsAndApiKeys`] every API key.
    pub async fn end_sessions<E>(
        &self,
        id: UserId,
        what: SignOutScope,
        context: &AuditContext,
        check: impl Fn(&Snapshot) -> Result<(), E>,
    ) -> Result<Changed<E>, StorageError> {
        self.write(|| async {
            let (mut ending, user, ()) = match self.begin_change(id, context, &check).await? {
                Ok(begun) => begun,
                Err(outcome) => return Ok(outcome),
            };
            let ended = match what {
                SignOutScope::Sessions => self.end_all_sessions(&mut ending, id, context.at).await?,
                SignOutScope::SessionsAndApiKeys => self.end_sessions_and_api_keys(&mut ending, id, context.at).await?,
            };
            ending.record(Action::SignoutAll, Outcome::Ok, Some(id), context).await?;
            ending.commit(&ended).await?;
            Ok(Changed::User(user))
        })
        .await
    }

    /// Deletes a user whom `check` allows, with all sessions and API keys.
    pub async fn delete_user<E>(
        &self,
        id: UserId,
        context: &AuditContext,
        check: impl Fn(&Snapshot) -> Result<(), E>,
    ) -> Result<Changed<E>, StorageError> {
        const DELETE: &str = "DELETE FROM users WHERE id = $1";
        self.write(|| async {
            // A sign-in at the same moment waits for this lock, and then begins no session.
            let (mut ending, user, ()) = match self.begin_change(id, context, &check).await? {
                Ok(begun) => begun,
                Err(outcome) => return Ok(outcome),
            };
            if user.is_superuser && user.is_active && !has_other_superuser(&mut ending, id).await? {
                ending.rollback().await?;
                return Ok(Changed::LastSuperuser);
            }
            let ended = self.end_sessions_and_api_keys(&mut ending, id, context.at).await?;
            ending.query(DELETE).bind(id.0).execute().await?;
            ending.record(Action::UserDelete, Outcome::Ok, Some(id), context).await?;
            ending.commit(&ended).await?;
            Ok(Changed::User(user))
        })
        .await
    }

    /// Whether there is a superuser, active or not: a restart must not replace a deactivated superuser.
    pub async fn has_superuser(&self) -> Result<bool, StorageError> {
        const SQL: &str = "SELECT id FROM users WHERE is_superuser LIMIT 1";
        let user: Option<(i64,)> = self.read_one(SQL, |query| query).await?;
        Ok(user.is_some())
    }

    /// Makes the user with this e-mail a superuser with this password; `None` when there is a superuser already.
    /// Ends the user's sessions and API keys: an attacker may have signed up under the operator's address before the
    /// operator did.
    pub async fn promote(
        &self,
        email: &Email,
        hash: &PasswordHash,
        context: &AuditContext,
    ) -> Result<Option<User>, StorageError> {
        const SQL: &str = concat!(
            r"
            UPDATE users
            SET password_hash = $2, is_active = TRUE, is_staff = TRUE, is_superuser = TRUE
            WHERE COALESCE(email_key, email) = $1 AND NOT EXISTS (SELECT 1 FROM users AS u WHERE u.is_superuser)
            RETURNING ",
            user_columns!()
        );
        self.write(|| async {
            let mut ending = self.begin_ending(Claim::Session).await?;
            let promote = ending.query(SQL).bind(email.key()).bind(hash.as_str());
            let row: Option<UserRow> = promote.fetch_optional().await?;
            let Some(user) = row.map(User::from) else {
                ending.rollback().await?;
                return Ok(None);
            };
            for action in [Action::RightsChange, Action::PasswordSet] {
                ending.record(action, Outcome::Ok, Some(user.id), context).await?;
            }
            if self.sends_mail {
                ending.queue_mail(MailKind::PasswordChanged, user.email.as_str(), context.at).await?;
            }
            let ended = self.end_sessions_and_api_keys(&mut ending, user.id, context.at).await?;
            ending.commit(&ended).await?;
            Ok(Some(user))
        })
        .await
    }
}

/// Locks an account until the transaction ends, and reads it and the actor. (SQLite has no `FOR UPDATE`.) The actor's
/// rights cannot change meanwhile, because that takes the feed's counter, too.
async fn lock(tx: &mut Tx, id: UserId, context: &AuditContext) -> Result<Option<Snapshot>, sqlx::Error> {
    const LOCK: &str = concat!(
        "UPDATE users SET is_active = is_active WHERE id = $1 RETURNING ",
        user_columns!(),
        ", users.password_hash"
    );
    const ACTOR: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1 AND is_active");
    let row: Option<AccountRow> = tx.query(LOCK).bind(id.0).fetch_optional().await?;
    let Some(row) = row else { return Ok(None) };
    let actor: Option<UserRow> = match context.actor {
        Some(actor) => tx.query(ACTOR).bind(actor.0).fetch_optional().await?,
        None => None,
    };
    Ok(Some(Snapshot { account: row.into(), actor: actor.map(User::from) }))
}

async fn has_other_superuser(tx: &mut Tx, id: UserId) -> Result<bool, sqlx::Error> {
    const SQL: &str = "SELECT id FROM users WHERE is_superuser AND is_active AND id <> $1 LIMIT 1";
    let other: Option<(i64,)> = tx.query(SQL).bind(id.0).fetch_optional().await?;
    Ok(other.is_some())
}
