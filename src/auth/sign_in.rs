//! A user signs in with a password.

use super::{Auth, AuthError};
use crate::{
    domain::{LoginName, NewSession, Password, RefreshToken, Seconds, SessionId, Timestamp, User},
    passwords::Verdict,
    random::random,
};

/// The credentials of one sign-in attempt.
#[derive(Debug, Clone)]
pub struct SignIn {
    pub login: LoginName,
    pub password: Password,
}

/// The client that signs in, as the list of sessions shows it.
#[derive(Debug, Clone, Default)]
pub struct Client {
    pub user_agent: Option<String>,
    pub ip: Option<String>,
}

/// The two tokens of a new session and their lifetimes in seconds.
#[derive(Debug, Clone)]
pub struct TokenPair {
    pub access_token: String,
    pub expires_in: Seconds,
    pub refresh_token: String,
    pub refresh_expires_in: Seconds,
}

/// What a successful sign-in does with a hash whose parameters are outdated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outdated {
    Rehash,
    Keep,
}

impl Auth {
    /// Begins a session. Every fault of the credentials is [`AuthError::InvalidCredentials`].
    pub async fn sign_in(&self, sign_in: SignIn, client: Client, now: Timestamp) -> Result<TokenPair, AuthError> {
        let absolute_end = now + self.policy.session_lifetime;
        let session = NewSession {
            id: SessionId::from_random(random()),
            expires_at: (now + self.policy.refresh_token_lifetime).min(absolute_end),
            absolute_expires_at: absolute_end,
            user_agent: client.user_agent,
            ip: client.ip,
        };
        let mut user = self.try_to_begin(&sign_in, &session, Outdated::Rehash, now).await?;
        if user.is_none() {
            // Another request replaced the stored hash during hashing. If a sign-in rehashed the same password, the second
            // try succeeds; if the password was changed, it fails. The second try does not rehash: two replicas with
            // different parameters would replace each other's hash again and again.
            user = self.try_to_begin(&sign_in, &session, Outdated::Keep, now).await?;
        }
        // The hash was replaced twice. The password was right both times, so the client may retry.
        let user = user.ok_or(AuthError::Overloaded)?;

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

    /// Begins `session` for the user with these credentials; `None` when, during hashing, the stored hash was replaced or
    /// the user was deactivated.
    async fn try_to_begin(
        &self,
        sign_in: &SignIn,
        session: &NewSession,
        outdated: Outdated,
        now: Timestamp,
    ) -> Result<Option<User>, AuthError> {
        // Before the query: in a flood most sign-ins are refused here, and they must cost the database nothing.
        let permit = self.passwords.try_acquire()?;
        let max_sessions = self.policy.max_sessions;
        let account = self.storage.credentials(&sign_in.login, max_sessions, now).await?;

        // An unknown account costs the same hash as a known one, so the response time does not reveal which accounts exist.
        let stored = account.as_ref().map(|account| account.password_hash.clone());
        let verdict = self.passwords.verify(permit, sign_in.password.clone(), stored).await?;

        let (Some(account), Verdict::Right { rehashed }) = (account, verdict) else {
            return Err(AuthError::InvalidCredentials);
        };
        if !account.is_active {
            return Err(AuthError::InvalidCredentials);
        }
        // Concurrent sign-ins may exceed the limit; the next sign-in ends the surplus sessions.
        let limit = account.has_max_sessions.then_some(max_sessions);
        let verified = &account.password_hash;
        let rehashed = rehashed.as_ref().filter(|_| outdated == Outdated::Rehash);
        Ok(self.storage.begin_session(account.id, verified, rehashed, session, limit, now).await?)
    }
}
