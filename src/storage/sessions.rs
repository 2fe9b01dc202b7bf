//! Sessions: begun by a sign-in, read by a refresh, ended once and for good.

use super::{
    Storage, StorageError,
    beginnings::{Begun, Waiting},
    revocations::ended,
    user_row::{UserRow, user_columns},
    work::on,
};
use crate::domain::{
    NewSession, PasswordHash, RefreshToken, Seconds, Session, SessionId, SessionState, Timestamp, User, UserId,
};
use uuid::Uuid;

/// What an end at `$1` makes of a session: it counts as expired, too, so that nobody who looks for what is alive walks
/// over it, and it is purged soon.
macro_rules! end_sessions {
    () => {
        "UPDATE sessions SET revoked_at = $1, expires_at = CASE WHEN expires_at < $1 THEN expires_at ELSE $1 END \
         WHERE revoked_at IS NULL AND "
    };
}

/// Says which sessions ended, as [`ended`] reads it.
macro_rules! saying_which {
    () => {
        " RETURNING id, last_used_at"
    };
}

/// Ends every session of the user `$2` at `$1`. Those that expired before `$3` are left to be purged.
pub(super) const END_ALL: &str = concat!(end_sessions!(), "user_id = $2 AND expires_at > $3", saying_which!());

/// How far our clock may be ahead without leaving a session out that has not expired yet.
const AHEAD: Seconds = Seconds(86_400);

/// Ends every session of a user in the transaction, and says which: [`Ended`](super::revocations::Ended).
macro_rules! end_all {
    ($storage:expr, $tx:ident, $user:expr, $now:expr) => {{
        let all = sqlx::query_as($crate::storage::sessions::END_ALL).bind($now.0).bind($user.0);
        let all = all.bind($storage.tokens_live_from($now).0).fetch_all(&mut *$tx).await?;
        $crate::storage::revocations::ended(all, $now)
    }};
}
pub(super) use end_all;

/// The columns of [`StateRow`].
macro_rules! state_columns {
    () => {
        "sessions.generation, sessions.rotated_at, sessions.last_used_at, sessions.expires_at, \
         sessions.absolute_expires_at"
    };
}

#[derive(sqlx::FromRow)]
struct StateRow {
    generation: i64,
    rotated_at: i64,
    last_used_at: i64,
    expires_at: i64,
    absolute_expires_at: i64,
}

impl From<StateRow> for SessionState {
    fn from(row: StateRow) -> Self {
        Self {
            generation: row.generation,
            rotated_at: Timestamp(row.rotated_at),
            last_used_at: Timestamp(row.last_used_at),
            expires_at: Timestamp(row.expires_at),
            absolute_expires_at: Timestamp(row.absolute_expires_at),
        }
    }
}

#[derive(sqlx::FromRow)]
struct SessionRow {
    id: Uuid,
    created_at: i64,
    last_used_at: i64,
    expires_at: i64,
    user_agent: Option<String>,
    ip: Option<String>,
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Self {
        Self {
            id: SessionId(row.id),
            created_at: Timestamp(row.created_at),
            last_used_at: Timestamp(row.last_used_at),
            expires_at: Timestamp(row.expires_at),
            user_agent: row.user_agent,
            ip: row.ip,
        }
    }
}

#[derive(sqlx::FromRow)]
struct LiveRow {
    #[sqlx(flatten)]
    user: UserRow,
    #[sqlx(flatten)]
    state: StateRow,
}

/// A session that is alive, and its user as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    pub user: User,
    pub state: SessionState,
}

impl From<LiveRow> for LiveSession {
    fn from(row: LiveRow) -> Self {
        Self { user: row.user.into(), state: row.state.into() }
    }
}

/// What became of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// The session moved on by one generation, and it was this caller who moved it.
    Moved(LiveSession),
    /// It stays: it is at another generation than the token.
    Stayed(LiveSession),
    /// Session or user are not alive.
    Gone,
}

/// Session and user of `$1` and `$2`, if both are alive at `$3`.
const LIVE: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", ",
    state_columns!(),
    " FROM sessions, users WHERE sessions.id = $1 AND sessions.user_id = $2 AND sessions.revoked_at IS NULL \
     AND sessions.expires_at > $3 AND sessions.absolute_expires_at > $3 \
     AND users.id = sessions.user_id AND users.is_active"
);

/// A session that is to be begun.
pub(super) struct Beginning {
    user: UserId,
    verified: PasswordHash,
    rehashed: Option<PasswordHash>,
    session: NewSession,
    now: Timestamp,
}

const SIGN_IN: &str = concat!(
    "UPDATE users SET last_login = $2, password_hash = $3, sign_ins = sign_ins + 1 \
     WHERE id = $1 AND is_active AND password_hash = $4 RETURNING ",
    user_columns!()
);
const BEGIN: &str = "INSERT INTO sessions (id, user_id, generation, created_at, rotated_at, last_used_at, \
     expires_at, absolute_expires_at, user_agent, ip, number) \
     SELECT $1, $2, 0, $3, $3, $3, $4, $5, $6, $7, sign_ins FROM users WHERE id = $2";

/// The user, signed in; `None`, with nothing written, where the password is another by now.
macro_rules! begin {
    ($tx:ident, $beginning:expr) => {{
        let Beginning { user, verified, rehashed, session, now } = $beginning;
        let row: Option<UserRow> = sqlx::query_as(SIGN_IN)
            .bind(user.0)
            .bind(now.0)
            .bind(rehashed.as_ref().unwrap_or(verified).as_str())
            .bind(verified.as_str())
            .fetch_optional(&mut *$tx)
            .await?;
        if row.is_some() {
            sqlx::query(BEGIN)
                .bind(session.id.0)
                .bind(user.0)
                .bind(now.0)
                .bind(session.expires_at.0)
                .bind(session.absolute_expires_at.0)
                .bind(session.user_agent.as_deref())
                .bind(session.ip.as_deref())
                .execute(&mut *$tx)
                .await?;
        }
        row.map(User::from)
    }};
}

impl Storage {
    /// A session that expired before this has no token left: its refresh token has ended, by a clock that is a day ahead,
    /// too, and so has the last access token, which may outlive the session by `jwt.access_token_lifetime`.
    pub(super) fn tokens_live_from(&self, now: Timestamp) -> Timestamp {
        self.revoked.start_of(now).min(now - AHEAD)
    }

    /// Begins a session for a user whose password was just found to be right; `rehashed` replaces an outdated hash.
    ///
    /// Hashing takes long enough for the password to be changed meanwhile. The session is therefore only begun
    /// while the hash that was verified is still the stored one and the user is active; `None` otherwise.
    /// `max_sessions` is given for a user who has as many: then the oldest end, and nobody else waits for the feed's
    /// counter.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn begin_session(
        &self,
        user: UserId,
        verified: &PasswordHash,
        rehashed: Option<&PasswordHash>,
        session: &NewSession,
        max_sessions: Option<u32>,
        now: Timestamp,
    ) -> Result<Option<User>, StorageError> {
        const END_OLDEST: &str = concat!(
            end_sessions!(),
            "id IN (SELECT id FROM sessions WHERE user_id = $2 AND id <> $3 AND revoked_at IS NULL \
             AND expires_at > $1 ORDER BY created_at DESC, number DESC LIMIT 1000000 OFFSET $4)",
            saying_which!()
        );
        let beginning =
            Beginning { user, verified: verified.clone(), rehashed: rehashed.cloned(), session: session.clone(), now };
        let Some(max_sessions) = max_sessions else {
            return match &self.beginnings {
                Some(others) => self.begin_with(others, beginning).await,
                None => self.begin_one(&beginning).await,
            };
        };
        on!(end "sid" self, |tx| {
            let begun = begin!(tx, &beginning);
            if begun.is_none() {
                return Ok((None, Vec::new()));
            }
            let oldest = sqlx::query_as(END_OLDEST).bind(now.0).bind(user.0).bind(session.id.0);
            (begun, ended(oldest.bind(i64::from(max_sessions) - 1).fetch_all(&mut *tx).await?, now))
        })
        .await
    }

    /// Begins a session in a transaction of its own.
    pub(super) async fn begin_one(&self, beginning: &Beginning) -> Begun {
        on!(write self, |tx| begin!(tx, beginning)).await
    }

    /// Begins sessions in one transaction; for who gave up before its turn there is none.
    pub(super) async fn begin_all(&self, all: &[Waiting]) -> Result<Vec<Option<User>>, StorageError> {
        on!(write self, |tx| {
            let mut begun = Vec::with_capacity(all.len());
            for waiting in all {
                begun.push(if waiting.is_gone() { None } else { begin!(tx, &waiting.beginning) });
            }
            begun
        })
        .await
    }

    /// The session that a refresh token belongs to and its user, if both are alive at `now`: one query, so that no
    /// refresh can pass between the end of one and the look at the other.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn live_session(
        &self,
        token: &RefreshToken,
        now: Timestamp,
    ) -> Result<Option<LiveSession>, StorageError> {
        let row: Option<LiveRow> = on!(read self, |connection| {
            sqlx::query_as(LIVE).bind(token.session.0).bind(token.user.0).bind(now.0).fetch_optional(connection).await
        })
        .await?;
        Ok(row.map(LiveSession::from))
    }

    /// Moves a session on to the next generation, which ends at `ends` or with the session. A compare-and-swap on the
    /// one row: of all who come with one token at once, on however many replicas, exactly one moves it.
    /// `alive_at` is when session and token must not have ended.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn rotate(
        &self,
        token: &RefreshToken,
        ends: Timestamp,
        alive_at: Timestamp,
        now: Timestamp,
    ) -> Result<Rotation, StorageError> {
        const SWAP: &str = concat!(
            "UPDATE sessions SET generation = generation + 1, rotated_at = $4, last_used_at = $4, \
             expires_at = CASE WHEN absolute_expires_at < $5 THEN absolute_expires_at ELSE $5 END \
             WHERE id = $1 AND user_id = $2 AND generation = $3 AND revoked_at IS NULL \
             AND expires_at > $6 AND absolute_expires_at > $6 \
             AND EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND users.is_active) RETURNING ",
            state_columns!()
        );
        const USER: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1");
        on!(write self, |tx| {
            let moved: Option<StateRow> = sqlx::query_as(SWAP)
                .bind(token.session.0)
                .bind(token.user.0)
                .bind(token.generation)
                .bind(now.0)
                .bind(ends.0)
                .bind(alive_at.0)
                .fetch_optional(&mut *tx)
                .await?;
            if let Some(state) = moved {
                // In the same transaction: roles and names are those of the moment of the swap.
                let user: Option<UserRow> = sqlx::query_as(USER).bind(token.user.0).fetch_optional(&mut *tx).await?;
                let Some(user) = user else { return Ok(Rotation::Gone) };
                Rotation::Moved(LiveSession { user: user.into(), state: state.into() })
            } else {
                let live = sqlx::query_as(LIVE).bind(token.session.0).bind(token.user.0).bind(alive_at.0);
                let live: Option<LiveRow> = live.fetch_optional(&mut *tx).await?;
                live.map_or(Rotation::Gone, |row| Rotation::Stayed(row.into()))
            }
        })
        .await
    }

    /// Notes that a session was used.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn touch_session(&self, id: SessionId, now: Timestamp) -> Result<(), StorageError> {
        const SQL: &str = "UPDATE sessions SET last_used_at = $2 WHERE id = $1 AND last_used_at < $2";
        on!(write self, |tx| sqlx::query(SQL).bind(id.0).bind(now.0).execute(&mut *tx).await.map(drop)?).await
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
            on!(read self, |connection| sqlx::query_as(SQL).bind(session.0).bind(user.0).fetch_optional(connection).await).await?;
        Ok(row.map(User::from))
    }

    /// Ends a session. Ending it again, or one that is not there, changes nothing.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn end_session(&self, id: SessionId, now: Timestamp) -> Result<(), StorageError> {
        const FIND: &str = "SELECT revoked_at IS NOT NULL, id, last_used_at FROM sessions WHERE id = $1";
        const END: &str = concat!(end_sessions!(), "id = $2", saying_which!());
        // Asked before: who sends a dead token a thousand times must not hold up those who end something.
        let found: Option<(bool, Uuid, i64)> =
            on!(read self, |connection| sqlx::query_as(FIND).bind(id.0).fetch_optional(connection).await).await?;
        match found {
            None => return Ok(()),
            // By another replica, it may be, of whom this one has not heard yet; and it is about to say that it ended.
            Some((true, id, last_used_at)) => {
                self.revoked.add(&ended(vec![(id, last_used_at)], now));
                return Ok(());
            }
            Some((false, ..)) => {}
        }
        on!(end "sid" self, |tx| {
            ((), ended(sqlx::query_as(END).bind(now.0).bind(id.0).fetch_all(&mut *tx).await?, now))
        })
        .await
    }

    /// The sessions of a user that are alive, the newest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn list_sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>, StorageError> {
        const SQL: &str = "SELECT id, created_at, last_used_at, expires_at, user_agent, ip FROM sessions \
             WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2 ORDER BY created_at DESC, number DESC LIMIT 1000";
        let rows: Vec<SessionRow> =
            on!(read self, |connection| sqlx::query_as(SQL).bind(user.0).bind(now.0).fetch_all(connection).await)
                .await?;
        Ok(rows.into_iter().map(Session::from).collect())
    }

    /// Ends one session of a user; whether there was such a one that may have tokens left.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn end_session_of(&self, user: UserId, id: SessionId, now: Timestamp) -> Result<bool, StorageError> {
        const FIND: &str = "SELECT COUNT(*) FROM sessions \
             WHERE user_id = $1 AND expires_at > $2 AND id = $3 AND revoked_at IS NULL";
        const END: &str = concat!(end_sessions!(), "user_id = $2 AND expires_at > $3 AND id = $4", saying_which!());
        let start = self.revoked.start_of(now);
        // Asked before: a client that names ids at random must not hold up those who end something.
        let found: i64 = on!(read self, |connection| {
            sqlx::query_scalar(FIND).bind(user.0).bind(start.0).bind(id.0).fetch_one(connection).await
        })
        .await?;
        if found == 0 {
            return Ok(false);
        }
        on!(end "sid" self, |tx| {
            let one = sqlx::query_as(END).bind(now.0).bind(user.0).bind(start.0).bind(id.0);
            let one = ended(one.fetch_all(&mut *tx).await?, now);
            if one.is_empty() {
                return Ok((false, one));
            }
            (true, one)
        })
        .await
    }

    /// Ends every session of a user.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn end_sessions(&self, user: UserId, now: Timestamp) -> Result<(), StorageError> {
        on!(end "sid" self, |tx| ((), end_all!(self, tx, user, now))).await
    }

    /// Replaces the password hash that was verified, and ends every session of its user but `kept`; whether the
    /// verified hash was still the stored one.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn change_password(
        &self,
        user: UserId,
        verified: &PasswordHash,
        new: &PasswordHash,
        kept: SessionId,
        now: Timestamp,
    ) -> Result<bool, StorageError> {
        const CHANGE: &str = "UPDATE users SET password_hash = $2 WHERE id = $1 AND is_active AND password_hash = $3";
        const END_OTHERS: &str =
            concat!(end_sessions!(), "user_id = $2 AND expires_at > $3 AND id <> $4", saying_which!());
        on!(end "sid" self, |tx| {
            let changed = sqlx::query(CHANGE).bind(user.0).bind(new.as_str()).bind(verified.as_str());
            if changed.execute(&mut *tx).await?.rows_affected() == 0 {
                return Ok((false, Vec::new()));
            }
            let others = sqlx::query_as(END_OTHERS).bind(now.0).bind(user.0).bind(self.tokens_live_from(now).0).bind(kept.0);
            (true, ended(others.fetch_all(&mut *tx).await?, now))
        })
        .await
    }
}
