//! A user signs in with a password.

use super::{Auth, AuthError};
use crate::{
    domain::{LoginName, NewSession, Password, RefreshToken, Seconds, SessionId, Timestamp, User},
    passwords::Verdict,
    random::random,
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

/// What becomes of a hash that was made at another cost than today's, when the password is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outdated {
    MadeAnew,
    Left,
}

impl Auth {
    /// Begins a session.
    ///
    /// # Errors
    /// [`AuthError::InvalidCredentials`] for whatever is wrong with them, or the service cannot work now.
    pub async fn sign_in(&self, sign_in: SignIn, client: Client, now: Timestamp) -> Result<TokenPair, AuthError> {
        let absolute_end = now + self.policy.session_lifetime;
        let session = NewSession {
            id: SessionId::from_random(random()),
            expires_at: (now + self.policy.refresh_token_lifetime).min(absolute_end),
            absolute_expires_at: absolute_end,
            user_agent: client.user_agent,
            ip: client.ip,
        };
        let mut user = self.try_to_begin(&sign_in, &session, Outdated::MadeAnew, now).await?;
        if user.is_none() {
            // The stored hash is another by now. If another sign-in made it anew at today's cost, the password is
            // right still; if the password was changed, it is wrong now. The second look tells. It makes nothing anew:
            // while replicas differ in what a hash costs, each would undo what the other did.
            user = self.try_to_begin(&sign_in, &session, Outdated::Left, now).await?;
        }
        // Another once more: the password was right both times, so this is no refusal.
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

    /// Begins `session` for the user with these credentials; `None` when they were right for a hash that was replaced
    /// while we were hashing, or the user was shut out meanwhile.
    async fn try_to_begin(
        &self,
        sign_in: &SignIn,
        session: &NewSession,
        outdated: Outdated,
        now: Timestamp,
    ) -> Result<Option<User>, AuthError> {
        // First: in a flood most are refused, and should cost no query.
        let permit = self.passwords.try_acquire()?;
        let max_sessions = self.policy.max_sessions;
        let account = self.storage.credentials(&sign_in.login, max_sessions, now).await?;

        // An unknown account costs the same hash as a known one: the time must not tell who has an account here.
        let stored = account.as_ref().map(|account| account.password_hash.clone());
        let verdict = self.passwords.verify(permit, sign_in.password.clone(), stored).await?;

        let (Some(account), Verdict::Right { rehashed }) = (account, verdict) else {
            return Err(AuthError::InvalidCredentials);
        };
        if !account.is_active {
            return Err(AuthError::InvalidCredentials);
        }
        // Sign-ins at the same moment may pass the limit until the next one.
        let limit = account.has_max_sessions.then_some(max_sessions);
        let verified = &account.password_hash;
        let rehashed = rehashed.as_ref().filter(|_| outdated == Outdated::MadeAnew);
        Ok(self.storage.begin_session(account.id, verified, rehashed, session, limit, now).await?)
    }
}
