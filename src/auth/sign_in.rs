//! Somebody signs in with a password.

use super::{Auth, AuthError};
use crate::{
    crypto::{Verdict, random},
    domain::{LoginName, NewSession, Password, RefreshToken, Seconds, SessionId, Timestamp},
};

/// A try to sign in.
#[derive(Debug, Clone)]
pub struct SignIn {
    pub login: LoginName,
    pub password: Password,
}

/// What is known of the program that signs in; shown in the list of sessions.
#[derive(Debug, Clone, Default)]
pub struct Client {
    pub user_agent: Option<String>,
    pub ip: Option<String>,
}

/// The two tokens of a new session, and how many seconds each is good for.
#[derive(Debug, Clone)]
pub struct TokenPair {
    pub access_token: String,
    pub expires_in: Seconds,
    pub refresh_token: String,
    pub refresh_expires_in: Seconds,
}

impl Auth {
    /// Begins a session.
    ///
    /// # Errors
    /// [`AuthError::InvalidCredentials`] for whatever is wrong with them, or the service cannot work now.
    pub async fn sign_in(&self, sign_in: SignIn, client: Client, now: Timestamp) -> Result<TokenPair, AuthError> {
        let account = self.storage.credentials(&sign_in.login).await?;

        // An unknown account costs the same hash as a known one: the time must not tell who has an account here.
        let stored = account.as_ref().map(|account| account.password_hash.clone());
        let verdict = self.passwords.verify(sign_in.password, stored).await?;

        let (Some(account), Verdict::Right { rehashed }) = (account, verdict) else {
            return Err(AuthError::InvalidCredentials);
        };
        if !account.is_active {
            return Err(AuthError::InvalidCredentials);
        }

        let absolute_end = now + self.policy.session_lifetime;
        let session = NewSession {
            id: SessionId::from_random(random()),
            expires_at: (now + self.policy.refresh_token_lifetime).min(absolute_end),
            absolute_expires_at: absolute_end,
            user_agent: client.user_agent,
            ip: client.ip,
        };
        // While we were hashing, the password may have been changed or the user shut out: then no session begins.
        let user = self
            .storage
            .begin_session(account.id, &account.password_hash, rehashed.as_ref(), &session, now)
            .await?
            .ok_or(AuthError::InvalidCredentials)?;

        let (access_token, expires_in) =
            self.tokens.mint_access(&user, session.id, session.absolute_expires_at, now)?;
        let refresh_token = self.tokens.mint_refresh(&RefreshToken {
            user: user.id,
            session: session.id,
            generation: 0,
            issued_at: now,
            expires_at: session.expires_at,
        })?;
        Ok(TokenPair { access_token, expires_in, refresh_token, refresh_expires_in: session.expires_at - now })
    }
}
