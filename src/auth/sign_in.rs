//! A user signs in with a password.

use super::{Auth, AuthError};
use crate::{
    domain::{LoginName, NewSession, Password, RefreshToken, Seconds, SessionId, Timestamp, User},
    limits::{AddressLimit, network},
    passwords::Verdict,
    random::random,
};
use std::net::IpAddr;

/// The credentials of a sign-in.
#[derive(Debug, Clone)]
pub struct SignIn {
    pub login: LoginName,
    pub password: Password,
}

/// The client that signs in, as the list of sessions shows it.
#[derive(Debug, Clone, Default)]
pub struct Client {
    pub user_agent: Option<String>,
    pub ip: Option<IpAddr>,
}

/// A token, and how many seconds it is valid.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    pub text: String,
    pub expires_in: Seconds,
}

impl From<(String, Seconds)> for IssuedToken {
    fn from((text, expires_in): (String, Seconds)) -> Self {
        Self { text, expires_in }
    }
}

/// The two tokens of a new session.
#[derive(Debug, Clone)]
pub struct TokenPair {
    pub access: IssuedToken,
    pub refresh: IssuedToken,
}

/// What to do with a hash that was made with other parameters, once the password is known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outdated {
    Rehash,
    Keep,
}

impl Auth {
    /// Begins a session.
    ///
    /// # Errors
    /// [`AuthError::InvalidCredentials`] for an unknown or inactive account and for a wrong password, or the service is
    /// overloaded or unavailable.
    pub async fn sign_in(&self, sign_in: SignIn, client: Client, now: Timestamp) -> Result<TokenPair, AuthError> {
        self.check_address(AddressLimit::SignIn, client.ip)?;
        let attempt = self.begin_attempt(&sign_in.login, client.ip, now).await?;
        let absolute_end = now + self.policy.session_lifetime;
        let session = NewSession {
            id: SessionId::from_random(random()),
            expires_at: (now + self.policy.refresh_token_lifetime).min(absolute_end),
            absolute_expires_at: absolute_end,
            user_agent: client.user_agent,
            ip: client.ip.map(|ip| ip.to_string()),
            network: client.ip.map(network),
        };
        let begun = self.begin_session(&sign_in, &session, now).await;
        match &begun {
            Ok(_) => self.note_success(attempt).await,
            Err(AuthError::InvalidCredentials) => self.note_failure(attempt).await,
            Err(_) => {}
        }
        let user = begun?;

        let access = self.tokens.mint_access(&user, session.id, session.absolute_expires_at, now)?;
        let refresh = self.tokens.mint_refresh(&RefreshToken {
            user: user.id,
            session: session.id,
            generation: 0,
            issued_at: now,
            expires_at: session.expires_at,
        })?;
        let refresh = IssuedToken { text: refresh, expires_in: session.expires_at - now };
        Ok(TokenPair { access: access.into(), refresh })
    }

    /// Begins `session` for the user with these credentials.
    async fn begin_session(&self, sign_in: &SignIn, session: &NewSession, now: Timestamp) -> Result<User, AuthError> {
        let mut user = self.try_to_begin(sign_in, session, Outdated::Rehash, now).await?;
        if user.is_none() {
            // The stored hash was replaced while this request was hashing. Either another sign-in rehashed the same password,
            // or the password was changed: the second attempt tells. It does not rehash, because replicas with different
            // parameters would undo each other's work.
            user = self.try_to_begin(sign_in, session, Outdated::Keep, now).await?;
        }
        // It was replaced again. The password was right both times, so the client may try again.
        user.ok_or(AuthError::Overloaded)
    }

    /// Begins `session` for the user with these credentials; `None` if the stored hash was replaced or the user was
    /// deactivated while this request was hashing.
    async fn try_to_begin(
        &self,
        sign_in: &SignIn,
        session: &NewSession,
        outdated: Outdated,
        now: Timestamp,
    ) -> Result<Option<User>, AuthError> {
        // First, so that in a flood a refused sign-in costs no query.
        let permit = self.passwords.try_acquire()?;
        let max_sessions = self.policy.max_sessions;
        let account = self.storage.credentials(&sign_in.login, max_sessions, now).await?;

        // An unknown account costs the same work as a known one: the time must not reveal whether an account exists.
        let stored = account.as_ref().map(|account| account.password_hash.clone());
        let verdict = self.passwords.verify(permit, sign_in.password.clone(), stored).await?;

        let (Some(account), Verdict::Right { rehashed }) = (account, verdict) else {
            return Err(AuthError::InvalidCredentials);
        };
        if !account.is_active {
            return Err(AuthError::InvalidCredentials);
        }
        // Concurrent sign-ins may exceed the limit; the next sign-in enforces it.
        let limit = account.has_max_sessions.then_some(max_sessions);
        let verified = &account.password_hash;
        let rehashed = rehashed.as_ref().filter(|_| outdated == Outdated::Rehash);
        Ok(self.storage.begin_session(account.id, verified, rehashed, session, limit, now).await?)
    }
}
