//! A client gets a new access token for a refresh token.

use super::{Auth, AuthError};
use crate::{
    crypto::Refusal,
    domain::{RefreshToken, RefreshVerdict, Seconds, SessionState, Timestamp},
    storage::{LiveSession, Rotation},
};

/// A token and its lifetime in seconds.
pub type Lasting = (String, Seconds);

/// A new access token; with `jwt.rotate_refresh_tokens` also the refresh token that replaces the one presented.
#[derive(Debug, Clone)]
pub struct Refreshed {
    pub access: Lasting,
    pub refresh: Option<Lasting>,
    pub kind: RefreshKind,
}

/// How a refresh succeeded; a metric counts each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshKind {
    /// The session moved to its next generation.
    Rotated,
    /// The session had already moved; the client got the same pair again.
    Repeated,
    /// Rotation is off: the client got an access token only.
    Renewed,
}

impl Auth {
    /// Issues an access token for a refresh token, with the user's current name and roles.
    pub async fn refresh(&self, token: &str, now: Timestamp) -> Result<Refreshed, AuthError> {
        // Before any query: a forged, malformed or expired token must cost the database nothing.
        let token = self.tokens.verify_refresh(token, now).map_err(|refusal| match refusal {
            Refusal::WrongType => AuthError::AccessTokenAsRefresh,
            Refusal::Invalid => AuthError::InvalidToken,
        })?;
        if self.policy.rotates { self.rotate(&token, now).await } else { self.renew(&token, now).await }
    }

    /// Rotation on: a refresh token works once, and a retry within `jwt.refresh_grace` gets the same pair again.
    async fn rotate(&self, token: &RefreshToken, now: Timestamp) -> Result<Refreshed, AuthError> {
        let (ends, alive_at) = (now + self.policy.refresh_token_lifetime, now - self.policy.leeway);
        let session = match self.storage.rotate(token, ends, alive_at, now).await? {
            // The normal case. Of several clients that send this token at once, only one gets here (compare-and-swap).
            Rotation::Rotated(session) => return self.pair(token, &session, RefreshKind::Rotated, now),
            // The session was signed out or has expired, or its user was deleted or deactivated.
            Rotation::SessionInactive => return Err(AuthError::InvalidToken),
            Rotation::GenerationMismatch(session) => session,
        };
        match session.state.judge_refresh(token.generation, self.policy.refresh_grace, now) {
            // The client lost the reply and retries, or a second tab sent the same token: the same pair again.
            RefreshVerdict::Retry => self.pair(token, &session, RefreshKind::Repeated, now),
            // A slow second tab. The client has a newer token already, so the session goes on.
            RefreshVerdict::Superseded => Err(AuthError::RefreshSuperseded),
            // Two clients hold this token and one may have stolen it. Signet cannot tell which, so the session ends for
            // both (RFC 9700, section 4.14.2).
            RefreshVerdict::Reused => {
                self.storage.end_session(token.session, now).await?;
                tracing::warn!(user.id = token.user.0, session.id = %token.session, "a refresh token was reused; its session has ended");
                Err(AuthError::RefreshReused)
            }
            // The token is newer than the row: the database was restored from a backup. The session goes on.
            // (`Current` cannot occur: the compare-and-swap would have rotated it.)
            RefreshVerdict::NeverIssued | RefreshVerdict::Current => Err(AuthError::InvalidToken),
        }
    }

    /// Rotation off: a refresh token works until it expires, and the session keeps its generation.
    async fn renew(&self, token: &RefreshToken, now: Timestamp) -> Result<Refreshed, AuthError> {
        // `None`: the session was signed out or has expired, or its user was deleted or deactivated.
        let session = self.storage.live_session(token, now - self.policy.leeway).await?;
        // Another generation: the token is from a time when rotation was on, and a newer one replaced it.
        let session = session.filter(|session| session.state.generation == token.generation);
        let LiveSession { user, state } = session.ok_or(AuthError::InvalidToken)?;

        if now - state.last_used_at >= SessionState::USE_IS_EXACT_TO {
            // A failure only makes the list of sessions inexact, and `storage` has logged it: the refresh succeeds.
            let _ = self.storage.touch_session(token.session, now).await;
        }
        let access = self.tokens.mint_access(&user, token.session, state.absolute_expires_at, now)?;
        Ok(Refreshed { access, refresh: None, kind: RefreshKind::Renewed })
    }

    /// The token pair of a session's generation. It follows from the row alone, so a retry gets the same pair.
    fn pair(
        &self,
        token: &RefreshToken,
        session: &LiveSession,
        kind: RefreshKind,
        now: Timestamp,
    ) -> Result<Refreshed, AuthError> {
        let LiveSession { user, state } = session;
        let access = match self.tokens.mint_access_of_rotation(user, token.session, state, now)? {
            Some(access) => access,
            // The grace is longer than the access token's lifetime, and that token has expired: issue a new one.
            None => self.tokens.mint_access(user, token.session, state.absolute_expires_at, now)?,
        };
        let refresh = self.tokens.mint_refresh(&RefreshToken {
            user: token.user,
            session: token.session,
            generation: state.generation,
            issued_at: state.rotated_at,
            expires_at: state.expires_at,
        })?;
        // Within `jwt.leeway` the token may have expired already.
        let refresh = (refresh, (state.expires_at - now).max(Seconds(0)));
        Ok(Refreshed { access, refresh: Some(refresh), kind })
    }
}
