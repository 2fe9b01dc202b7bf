//! A client gets a new access token for a refresh token.

use super::{Auth, AuthError, IssuedToken};
use crate::{
    domain::{Action, AuditContext, RefreshToken, RefreshVerdict, Seconds, SessionState, Timestamp},
    limits::AddressLimit,
    storage::{LiveSession, Rotation},
    tokens::{Grant, Refusal},
};

/// A new access token; with `jwt.rotate_refresh_tokens` also the refresh token that replaces the presented one.
#[derive(Debug, Clone)]
pub struct Refreshed {
    pub access: IssuedToken,
    pub refresh: Option<IssuedToken>,
    pub kind: RefreshKind,
}

/// The kind of a successful refresh, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshKind {
    /// The session has a new generation.
    Rotated,
    /// The session had its new generation already: the client got the same pair again.
    Repeated,
    /// Without rotation: an access token alone.
    Renewed,
    /// An access token for an API key.
    ApiKey,
}

impl Auth {
    /// Exchanges a refresh token for a new access token for `audience`, with the user's current username and roles.
    ///
    /// # Errors
    /// The audience is not configured; the token is invalid, an access token, superseded or reused; its session has
    /// ended; or the database is unavailable.
    pub async fn refresh(
        &self,
        token: &str,
        audience: Option<&str>,
        context: &AuditContext,
    ) -> Result<Refreshed, AuthError> {
        self.check_address(AddressLimit::Refresh, context.address)?;
        self.refresh_for_client(token, audience, context).await
    }

    /// As [`Self::refresh`], but without the limit by address: an authenticated client may act for many users.
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub async fn refresh_for_client(
        &self,
        token: &str,
        audience: Option<&str>,
        context: &AuditContext,
    ) -> Result<Refreshed, AuthError> {
        let (now, audience) = (context.at, self.audience(audience)?);
        // Checked without the database: a forged, malformed or expired token costs no query.
        let token = self.tokens.verify_refresh(token, now).map_err(|refusal| match refusal {
            Refusal::WrongType => AuthError::AccessTokenAsRefresh,
            Refusal::Invalid => AuthError::InvalidToken,
        })?;
        if self.policy.rotates {
            self.rotate(&token, audience, context).await
        } else {
            self.renew(&token, audience, now).await
        }
    }

    /// With rotation each refresh token is used once, and a retry gets the same pair as the first attempt.
    async fn rotate(
        &self,
        token: &RefreshToken,
        audience: Option<&str>,
        context: &AuditContext,
    ) -> Result<Refreshed, AuthError> {
        let now = context.at;
        let (new_expiry, not_ended_at) = (now + self.policy.refresh_token_lifetime, now - self.policy.leeway);
        let session = match self.storage.rotate(token, new_expiry, not_ended_at, now).await? {
            // The normal case. Of several concurrent requests with this token, exactly one gets here.
            Rotation::Rotated(session) => return self.pair(token, audience, &session, RefreshKind::Rotated, now),
            // Signed out or expired, or the user is deleted or inactive.
            Rotation::SessionInactive => return Err(AuthError::InvalidToken),
            Rotation::GenerationMismatch(session) => session,
        };
        match session.state.judge_refresh(token.generation, self.policy.refresh_grace, now) {
            // The client lost the reply and retries, or has a second tab: it gets the same pair, made from the row.
            RefreshVerdict::Retry => self.pair(token, audience, &session, RefreshKind::Repeated, now),
            // A slow second tab: the client has a newer token, so the session continues.
            RefreshVerdict::Superseded => Err(AuthError::RefreshSuperseded),
            // Two clients hold this token, and one of them copied it. The service cannot tell which, so the session
            // ends for both.
            RefreshVerdict::Reused => {
                self.storage.end_session(token.session, token.user, Action::RefreshReuse, context).await?;
                tracing::warn!(user.id = token.user.0, session.id = %token.session, "a refresh token was reused; its session has ended");
                Err(AuthError::RefreshReused)
            }
            // A generation that this database does not know, because it was restored from a backup. The session
            // continues. (A token of the current generation was rotated above.)
            RefreshVerdict::NeverIssued | RefreshVerdict::Current => Err(AuthError::InvalidToken),
        }
    }

    /// Without rotation a refresh token is valid until it expires, and the session does not change.
    async fn renew(
        &self,
        token: &RefreshToken,
        audience: Option<&str>,
        now: Timestamp,
    ) -> Result<Refreshed, AuthError> {
        // One query reads session and user: `None` if signed out or expired, or if the user is deleted or inactive.
        let session = self.storage.live_session(token, now - self.policy.leeway).await?;
        // A token of another generation was issued while rotation was on, and has been replaced.
        let session = session.filter(|session| session.state.generation == token.generation);
        let LiveSession { user, state } = session.ok_or(AuthError::InvalidToken)?;

        if now - state.last_used_at >= SessionState::USE_IS_EXACT_TO {
            // Only the list of sessions needs this, so a failure, which storage logs, does not refuse the request.
            let _ = self.storage.touch_session(token.session, now).await;
        }
        let session_end = state.absolute_expires_at;
        let grant = Grant { user: &user, session: token.session, session_end, audience };
        let access = self.tokens.mint_access(&grant, now)?.into();
        Ok(Refreshed { access, refresh: None, kind: RefreshKind::Renewed })
    }

    /// The pair of tokens of a session's generation. It follows from the row alone, so a retry gets an equal pair.
    fn pair(
        &self,
        token: &RefreshToken,
        audience: Option<&str>,
        session: &LiveSession,
        kind: RefreshKind,
        now: Timestamp,
    ) -> Result<Refreshed, AuthError> {
        let LiveSession { user, state } = session;
        let grant = Grant { user, session: token.session, session_end: state.absolute_expires_at, audience };
        let access = self.tokens.mint_access_of_rotation(&grant, state, now)?.into();
        let refresh = self.tokens.mint_refresh(&RefreshToken {
            user: token.user,
            session: token.session,
            generation: state.generation,
            issued_at: state.rotated_at,
            expires_at: state.expires_at,
        })?;
        // Within the leeway it may have expired already.
        let expires_in = (state.expires_at - now).max(Seconds(0));
        Ok(Refreshed { access, refresh: Some(IssuedToken { text: refresh, expires_in }), kind })
    }
}
