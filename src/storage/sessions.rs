//! Sessions: a sign-in begins one, a refresh reads and rotates it, a sign-out ends it permanently.

use super::{
    Storage, StorageError,
    api_keys::end_api_keys,
    query::{Query, Tx},
    revocation::{Claim, EndSessions, EndedRow, Ending, Revocation, revocations_at},
    user_row::{UserRow, user_columns},
};
use crate::domain::{
    Action, AuditContext, MailKind, NewSession, Outcome, PasswordHash, RefreshToken, Seconds, Session, SessionId,
    SessionState, Timestamp, User, UserId,
};
use uuid::Uuid;

/// Ends at `$1` the sessions that a condition selects, and returns each [`EndedRow`].
///
/// An ended session counts as expired, too: a query for sessions that are alive skips it in the index, and the purge
/// deletes it soon.
macro_rules! end_sessions_where {
    ($condition:literal) => {
        EndSessions(concat!(
            r"
            UPDATE sessions
            SET revoked_at = $1,
                expires_at = CASE WHEN expires_at < $1 THEN expires_at ELSE $1 END
            WHERE revoked_at IS NULL AND ",
            $condition,
            " RETURNING id, last_used_at"
        ))
    };
}

/// Whether the session or the API key `$session` of the user `$user` has not ended.
macro_rules! is_alive {
    ($session:literal, $user:literal) => {
        concat!(
            "(EXISTS (SELECT 1 FROM sessions WHERE id = ",
            $session,
            " AND user_id = ",
            $user,
            " AND revoked_at IS NULL)",
            " OR EXISTS (SELECT 1 FROM api_keys WHERE id = ",
            $session,
            " AND user_id = ",
            $user,
            "))"
        )
    };
}
pub(super) use is_alive;

/// How far ahead this replica's clock may be before the replica mistakes a live session for an expired one.
const FAST_CLOCK_MARGIN: Seconds = Seconds(86_400);

/// The columns of [`StateRow`].
macro_rules! state_columns {
    () => {
        "sessions.generation, sessions.rotated_at, sessions.last_used_at, sessions.expires_at, sessions.absolute_expires_at"
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

/// A live session, and its current user.
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

/// The outcome of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// This call advanced the session by one generation.
    Rotated(LiveSession),
    /// The session has another generation than the token, and was not changed.
    GenerationMismatch(LiveSession),
    /// The session has ended or expired, or its user is inactive.
    SessionInactive,
}

/// Session and user of `$1` and `$2`, if both are alive at `$3`.
const LIVE: &str = concat!(
    "SELECT ",
    user_columns!(),
    ", ",
    state_columns!(),
    r"
    FROM sessions, users
    WHERE sessions.id = $1 AND sessions.user_id = $2 AND sessions.revoked_at IS NULL
      AND sessions.expires_at > $3 AND sessions.absolute_expires_at > $3
      AND users.id = sessions.user_id AND users.is_active"
);

/// A sign-in whose password matched the hash `verified`.
pub(super) struct VerifiedSignIn {
    user: UserId,
    verified: PasswordHash,
    /// Replaces a hash that was made with outdated parameters.
    rehashed: Option<PasswordHash>,
    session: NewSession,
    context: AuditContext,
}

/// Inserts the session of a sign-in, and returns its user. `None`, and nothing is written, when `verified` is no longer
/// the stored hash or the user is inactive.
pub(super) async fn insert_session(tx: &mut Tx, sign_in: &VerifiedSignIn) -> Result<Option<User>, sqlx::Error> {
    const SIGN_IN: &str = concat!(
        r"
        UPDATE users
        SET last_login = $2, password_hash = $3, sign_ins = sign_ins + 1
        WHERE id = $1 AND is_active AND password_hash = $4
        RETURNING ",
        user_columns!()
    );
    const INSERT: &str = r"
        INSERT INTO sessions (id, user_id, generation, created_at, rotated_at, last_used_at,
            expires_at, absolute_expires_at, user_agent, ip, network, number)
        SELECT $1, $2, 0, $3, $3, $3, $4, $5, $6, $7, $8, sign_ins
        FROM users
        WHERE id = $2";
    let VerifiedSignIn { user, verified, rehashed, session, context } = sign_in;
    let now = context.at;
    let row: Option<UserRow> = tx
        .query(SIGN_IN)
        .bind(user.0)
        .bind(now.0)
        .bind(rehashed.as_ref().unwrap_or(verified).as_str())
        .bind(verified.as_str())
        .fetch_optional()
        .await?;
    let Some(row) = row else { return Ok(None) };
    tx.record(Action::Signin, Outcome::Ok, Some(*user), &context.by(*user)).await?;
    tx.query(INSERT)
        .bind(session.id.0)
        .bind(user.0)
        .bind(now.0)
        .bind(session.expires_at.0)
        .bind(session.absolute_expires_at.0)
        .bind(session.user_agent.as_deref())
        .bind(session.ip.as_deref())
        .bind(session.network.as_deref())
        .execute()
        .await?;
    Ok(Some(row.into()))
}

impl Storage {
    /// All tokens of a session that expired before this time have expired: its refresh token, even if this replica's
    /// clock is up to a day ahead, and its last access token, which can be valid for `jwt.access_token_lifetime` after
    /// the session has expired.
    fn tokens_live_from(&self, now: Timestamp) -> Timestamp {
        self.revoked.oldest_relevant(now).min(now - FAST_CLOCK_MARGIN)
    }

    /// Ends every session and every API key of a user.
    pub(super) async fn end_sessions_and_api_keys(
        &self,
        ending: &mut Ending,
        user: UserId,
        now: Timestamp,
    ) -> Result<Vec<Revocation>, sqlx::Error> {
        let mut ended = self.end_all_sessions(ending, user, now).await?;
        ended.extend(end_api_keys(ending, user, now).await?);
        Ok(ended)
    }

    /// Ends every session of a user. Sessions without a live token are left to the purge.
    pub(super) async fn end_all_sessions(
        &self,
        ending: &mut Ending,
        user: UserId,
        now: Timestamp,
    ) -> Result<Vec<Revocation>, sqlx::Error> {
        const END_ALL: EndSessions = end_sessions_where!("user_id = $2 AND expires_at > $3");
        let end = ending.end(END_ALL).bind(now.0).bind(user.0).bind(self.tokens_live_from(now).0);
        Ok(revocations_at(now, end.fetch_all().await?))
    }

    /// Begins a session for a user whose password matched the hash `verified`; `rehashed` replaces an outdated hash.
    ///
    /// Hashing takes long enough for the password to be changed meanwhile. So the session begins only while `verified`
    /// is still the stored hash and the user is active; `None` otherwise. With `max_sessions`, for a user who has
    /// reached that number, the oldest sessions end. Other sign-ins do not lock the feed's counter.
    pub async fn begin_session(
        &self,
        user: UserId,
        verified: &PasswordHash,
        rehashed: Option<&PasswordHash>,
        session: &NewSession,
        max_sessions: Option<u32>,
        context: &AuditContext,
    ) -> Result<Option<User>, StorageError> {
        let sign_in = VerifiedSignIn {
            user,
            verified: verified.clone(),
            rehashed: rehashed.cloned(),
            session: session.clone(),
            context: context.clone(),
        };
        match (max_sessions, &self.sign_in_queue) {
            (Some(max_sessions), _) => self.commit_sign_in_at_limit(&sign_in, max_sessions).await,
            (None, Some(queue)) => self.enqueue(queue, sign_in).await,
            (None, None) => self.commit_sign_in(&sign_in).await,
        }
    }

    /// Begins a session in its own transaction.
    pub(super) async fn commit_sign_in(&self, sign_in: &VerifiedSignIn) -> Result<Option<User>, StorageError> {
        self.write(|| async {
            let mut tx = self.begin().await?;
            let user = insert_session(&mut tx, sign_in).await?;
            tx.commit().await?;
            Ok(user)
        })
        .await
    }

    /// Begins a session, and ends the oldest ones of its user beyond `max_sessions`.
    async fn commit_sign_in_at_limit(
        &self,
        sign_in: &VerifiedSignIn,
        max_sessions: u32,
    ) -> Result<Option<User>, StorageError> {
        const END_OLDEST: EndSessions = end_sessions_where!(
            "id IN (
                SELECT id FROM sessions
                WHERE user_id = $2 AND id <> $3 AND revoked_at IS NULL AND expires_at > $1
                ORDER BY created_at DESC, number DESC
                LIMIT 1000000 OFFSET $4
            )"
        );
        let now = sign_in.context.at;
        self.write(|| async {
            let mut ending = self.begin_ending(Claim::Session).await?;
            let Some(user) = insert_session(&mut ending, sign_in).await? else {
                ending.rollback().await?;
                return Ok(None);
            };
            let end = ending.end(END_OLDEST).bind(now.0).bind(user.id.0).bind(sign_in.session.id.0);
            let ended = end.bind(i64::from(max_sessions) - 1).fetch_all().await?;
            ending.commit(&revocations_at(now, ended)).await?;
            Ok(Some(user))
        })
        .await
    }

    /// The session that a refresh token belongs to and its user, if both are alive at `now`. One query, so that no
    /// other refresh can happen between the two look-ups.
    pub async fn live_session(
        &self,
        token: &RefreshToken,
        now: Timestamp,
    ) -> Result<Option<LiveSession>, StorageError> {
        let row: Option<LiveRow> =
            self.read_one(LIVE, |query| query.bind(token.session.0).bind(token.user.0).bind(now.0)).await?;
        Ok(row.map(LiveSession::from))
    }

    /// Advances a session to the next generation, which ends at `new_expiry` or with the session. A compare-and-swap on
    /// one row: if clients send one token at the same time, on any number of replicas, exactly one call rotates.
    /// Session and token must not have ended at `not_ended_at`.
    pub async fn rotate(
        &self,
        token: &RefreshToken,
        new_expiry: Timestamp,
        not_ended_at: Timestamp,
        now: Timestamp,
    ) -> Result<Rotation, StorageError> {
        const SWAP: &str = concat!(
            r"
            UPDATE sessions
            SET generation = generation + 1, rotated_at = $4, last_used_at = $4,
                expires_at = CASE WHEN absolute_expires_at < $5 THEN absolute_expires_at ELSE $5 END
            WHERE id = $1 AND user_id = $2 AND generation = $3 AND revoked_at IS NULL
              AND expires_at > $6 AND absolute_expires_at > $6
              AND EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND users.is_active)
            RETURNING ",
            state_columns!()
        );
        const USER: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1");
        self.write(|| async {
            let mut tx = self.begin().await?;
            let swap = tx.query(SWAP).bind(token.session.0).bind(token.user.0).bind(token.generation);
            let state: Option<StateRow> =
                swap.bind(now.0).bind(new_expiry.0).bind(not_ended_at.0).fetch_optional().await?;
            let rotation = if let Some(state) = state {
                // In the same transaction: roles and names are those at the moment of the swap.
                let user: Option<UserRow> = tx.query(USER).bind(token.user.0).fetch_optional().await?;
                let Some(user) = user else {
                    tx.rollback().await?;
                    return Ok(Rotation::SessionInactive);
                };
                Rotation::Rotated(LiveSession { user: user.into(), state: state.into() })
            } else {
                let live = tx.query(LIVE).bind(token.session.0).bind(token.user.0).bind(not_ended_at.0);
                let live: Option<LiveRow> = live.fetch_optional().await?;
                live.map_or(Rotation::SessionInactive, |row| Rotation::GenerationMismatch(row.into()))
            };
            tx.commit().await?;
            Ok(rotation)
        })
        .await
    }

    /// Records that a session was used.
    pub async fn touch_session(&self, id: SessionId, now: Timestamp) -> Result<(), StorageError> {
        const SQL: &str = "UPDATE sessions SET last_used_at = $2 WHERE id = $1 AND last_used_at < $2";
        self.write(|| async {
            let mut tx = self.begin().await?;
            tx.query(SQL).bind(id.0).bind(now.0).execute().await?;
            tx.commit().await
        })
        .await
    }

    /// The user of an access token, if the user is active and the session, or the API key, has not ended.
    pub async fn active_user_of_session(&self, user: UserId, session: SessionId) -> Result<Option<User>, StorageError> {
        const SQL: &str = concat!(
            "SELECT ",
            user_columns!(),
            r"
            FROM users
            WHERE users.id = $2 AND users.is_active AND ",
            is_alive!("$1", "$2")
        );
        let row: Option<UserRow> = self.read_one(SQL, |query| query.bind(session.0).bind(user.0)).await?;
        Ok(row.map(User::from))
    }

    /// Ends a session of a user, for the reason `action`. Ending it again, or one that does not exist, changes nothing.
    pub async fn end_session(
        &self,
        id: SessionId,
        user: UserId,
        action: Action,
        context: &AuditContext,
    ) -> Result<(), StorageError> {
        const FIND: &str = "SELECT revoked_at IS NOT NULL, id, last_used_at FROM sessions WHERE id = $1";
        const END: EndSessions = end_sessions_where!("id = $2");
        // A look-up first: a client that sends a dead token a thousand times must not lock the feed's counter.
        let found: Option<(bool, Uuid, i64)> = self.read_one(FIND, |query| query.bind(id.0)).await?;
        match found {
            None => return Ok(()),
            // Another replica may have ended it, and this one may not have read that yet. After this reply the client
            // relies on the end of the session, so this replica adds it to its set now.
            Some((true, id, last_used_at)) => {
                self.learn_revocations(&revocations_at(context.at, vec![(id, last_used_at)]));
                return Ok(());
            }
            Some((false, ..)) => {}
        }
        self.end_selected(END, |query| query.bind(id.0), user, action, context).await.map(drop)
    }

    /// Ends the sessions of a user that a condition selects, in their own transaction; `false` when there were none.
    async fn end_selected(
        &self,
        sql: EndSessions,
        bind: impl Fn(Query<'_>) -> Query<'_>,
        user: UserId,
        action: Action,
        context: &AuditContext,
    ) -> Result<bool, StorageError> {
        let outcome = if action == Action::RefreshReuse { Outcome::Failed } else { Outcome::Ok };
        self.write(|| async {
            let mut ending = self.begin_ending(Claim::Session).await?;
            let ended: Vec<EndedRow> = bind(ending.end(sql).bind(context.at.0)).fetch_all().await?;
            if ended.is_empty() {
                ending.rollback().await?;
                return Ok(false);
            }
            ending.record(action, outcome, Some(user), context).await?;
            ending.commit(&revocations_at(context.at, ended)).await?;
            Ok(true)
        })
        .await
    }

    /// The sessions of a user that are alive, the newest first.
    pub async fn list_sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>, StorageError> {
        const SQL: &str = r"
            SELECT id, created_at, last_used_at, expires_at, user_agent, ip
            FROM sessions
            WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2
            ORDER BY created_at DESC, number DESC
            LIMIT 1000";
        let rows: Vec<SessionRow> = self.read_all(SQL, |query| query.bind(user.0).bind(now.0)).await?;
        Ok(rows.into_iter().map(Session::from).collect())
    }

    /// Ends one session of a user; `false` when the user has no such session with a live token.
    pub async fn end_session_of(
        &self,
        user: UserId,
        id: SessionId,
        context: &AuditContext,
    ) -> Result<bool, StorageError> {
        const FIND: &str = r"
            SELECT id
            FROM sessions
            WHERE user_id = $1 AND expires_at > $2 AND id = $3 AND revoked_at IS NULL";
        const END: EndSessions = end_sessions_where!("user_id = $2 AND expires_at > $3 AND id = $4");
        let start = self.revoked.oldest_relevant(context.at);
        // A look-up first: a client that sends random ids must not lock the feed's counter.
        let found: Option<(Uuid,)> = self.read_one(FIND, |query| query.bind(user.0).bind(start.0).bind(id.0)).await?;
        if found.is_none() {
            return Ok(false);
        }
        self.end_selected(END, |query| query.bind(user.0).bind(start.0).bind(id.0), user, Action::Signout, context)
            .await
    }

    /// Replaces the password hash `verified`, and ends every session of its user except `kept`; `false`, and nothing
    /// changes, when `verified` is no longer the stored hash.
    pub async fn change_password(
        &self,
        &User { id: user, ref email, .. }: &User,
        verified: &PasswordHash,
        new: &PasswordHash,
        kept: SessionId,
        context: &AuditContext,
    ) -> Result<bool, StorageError> {
        const CHANGE: &str = r"
            UPDATE users
            SET password_hash = $2
            WHERE id = $1 AND is_active AND password_hash = $3";
        const END_OTHERS: EndSessions = end_sessions_where!("user_id = $2 AND expires_at > $3 AND id <> $4");
        let now = context.at;
        self.write(|| async {
            let mut ending = self.begin_ending(Claim::Session).await?;
            let change = ending.query(CHANGE).bind(user.0).bind(new.as_str()).bind(verified.as_str());
            if change.execute().await? == 0 {
                ending.rollback().await?;
                return Ok(false);
            }
            let end = ending.end(END_OTHERS).bind(now.0).bind(user.0).bind(self.tokens_live_from(now).0);
            let ended = end.bind(kept.0).fetch_all().await?;
            ending.record(Action::PasswordChange, Outcome::Ok, Some(user), context).await?;
            if self.sends_mail {
                ending.queue_mail(MailKind::PasswordChanged, email.as_str(), now).await?;
            }
            ending.commit(&revocations_at(now, ended)).await?;
            Ok(true)
        })
        .await
    }
}
