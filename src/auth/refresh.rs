//! A client gets a new access token for a refresh token.

use super::{Auth, AuthError};
use crate::{
    domain::{RefreshToken, RefreshVerdict, Seconds, SessionState, Timestamp},
    storage::{LiveSession, Rotation},
    tokens::Refusal,
};

/// A token, and how many seconds it is good for.
pub type Lasting = (String, Seconds);

/// A new access token; with `jwt.rotate_refresh_tokens` also the refresh token that replaces the one that came.
#[derive(Debug, Clone)]
pub struct Refreshed {
    pub access: Lasting,
    pub refresh: Option<Lasting>,
    pub kind: RefreshKind,
}

/// What came of a refresh that was answered, for those who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshKind {
    /// The session moved on.
    Rotated,
    /// It had; the same pair was answered again.
    Repeated,
    /// Without rotation: an access token alone.
    Renewed,
}

impl Auth {
    /// Answers a new access token for a refresh token, with the user's name and roles as they are now.
    ///
    /// # Errors
    /// The token is none, is of the other kind or has ended, was superseded or used before, or the database is away.
    pub async fn refresh(&self, token: &str, now: Timestamp) -> Result<Refreshed, AuthError> {
        // Checked without the database: a forged, malformed or expired token costs no query.
        let token = self.tokens.verify_refresh(token, now).map_err(|refusal| match refusal {
            Refusal::WrongType => AuthError::AccessTokenAsRefresh,
            Refusal::Invalid => AuthError::InvalidToken,
        })?;
        if self.policy.rotates { self.rotate(&token, now).await } else { self.renew(&token, now).await }
    }

    /// With rotation a refresh token is good once, and a retry gets what the first try got.
    async fn rotate(&self, token: &RefreshToken, now: Timestamp) -> Result<Refreshed, AuthError> {
        let (ends, alive_at) = (now + self.policy.refresh_token_lifetime, now - self.policy.leeway);
        let session = match self.storage.rotate(token, ends, alive_at, now).await? {
            // The normal case. Of many who come with this token at once, only one gets here.
            Rotation::Rotated(session) => return self.pair(token, &session, RefreshKind::Rotated, now),
            // Signed out, expired, or its user deleted or inactive.
            Rotation::SessionInactive => return Err(AuthError::InvalidToken),
            Rotation::GenerationMismatch(session) => session,
        };
        match session.state.judge_refresh(token.generation, self.policy.refresh_grace, now) {
            // A lost reply, a second tab, a retry: the same pair again, made from the row alone.
            RefreshVerdict::Retry => self.pair(token, &session, RefreshKind::Repeated, now),
            // A slow second tab. It has a newer token by now, and nothing ends.
            RefreshVerdict::Superseded => Err(AuthError::RefreshSuperseded),
            // Two hold this token, and one of them should not. Which one cannot be told: the session ends for both.
            RefreshVerdict::Reused => {
                self.storage.end_session(token.session, now).await?;
                tracing::warn!(user.id = token.user.0, session.id = %token.session, "a refresh token was reused; its session has ended");
                Err(AuthError::RefreshReused)
            }
            // Newer than the newest: a database that was restored from a backup has forgotten it. Nothing ends.
            // (`Current` would have been moved.)
            RefreshVerdict::NeverIssued | RefreshVerdict::Current => Err(AuthError::InvalidToken),
        }
    }

    /// Without rotation a refresh token is good until it ends, and nothing of the session changes.
    async fn renew(&self, token: &RefreshToken, now: Timestamp) -> Result<Refreshed, AuthError> {
        // Signed out, expired, or its user deleted or inactive: one query sees session and user at one moment.
        let session = self.storage.live_session(token, now - self.policy.leeway).await?;
        // Of another generation: left from a time when rotation was on.
        let session = session.filter(|session| session.state.generation == token.generation);
        let LiveSession { user, state } = session.ok_or(AuthError::InvalidToken)?;

        if now - state.last_used_at >= SessionState::USE_IS_EXACT_TO {
            // Only the list of sessions would miss this: no reason to refuse, and the storage has logged it.
            let _ = self.storage.touch_session(token.session, now).await;
        }
        let access = self.tokens.mint_access(&user, token.session, state.absolute_expires_at, now)?;
        Ok(Refreshed { access, refresh: None, kind: RefreshKind::Renewed })
    }

    /// The pair of a session's generation. Everything in it follows from the row, so that it can be answered again.
    fn pair(
        &self,
        token: &RefreshToken,
        session: &LiveSession,
        kind: RefreshKind,
        now: Timestamp,
    ) -> Result<Refreshed, AuthError> {
        let LiveSession { user, state } = session;
        let access = self.tokens.mint_access_of_rotation(user, token.session, state, now)?;
        let refresh = self.tokens.mint_refresh(&RefreshToken {
            user: token.user,
            session: token.session,
            generation: state.generation,
            issued_at: state.rotated_at,
            expires_at: state.expires_at,
        })?;
        // Within the leeway it may have ended already.
        let refresh = (refresh, (state.expires_at - now).max(Seconds(0)));
        Ok(Refreshed { access, refresh: Some(refresh), kind })
    }
}
