//! A user signs in with a password.

use super::{Auth, AuthError};
use crate::{
    domain::{Action, AuditContext, LoginName, NewSession, Password, RefreshToken, Seconds, SessionId, User, UserId},
    limits::{AddressLimit, network},
    passwords::Verdict,
    random::random,
    tokens::Grant,
};

/// The credentials of a sign-in.
#[derive(Debug, Clone)]
pub struct SignIn {
    pub login: LoginName,
    pub password: Password,
    /// The audience of the access token; `jwt.audience` if `None`.
    pub audience: Option<String>,
}

/// The origin of a sign-in, which the list of sessions shows.
#[derive(Debug, Clone)]
pub struct SignInSource {
    pub user_agent: Option<String>,
    pub context: AuditContext,
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

/// What became of a sign-in.
enum Begun {
    Session(User),
    /// Unknown or inactive account, or wrong password.
    Refused {
        account: Option<UserId>,
    },
    /// The stored hash was replaced, or the user was deactivated, while this request was hashing.
    Replaced,
}

impl Auth {
    /// Begins a session.
    ///
    /// # Errors
    /// [`AuthError::InvalidCredentials`] for an unknown or inactive account and for a wrong password,
    /// [`AuthError::RateLimited`], [`AuthError::InvalidMember`] for an unknown audience, or the service is
    /// overloaded or unavailable.
    pub async fn sign_in(&self, sign_in: SignIn, source: SignInSource) -> Result<TokenPair, AuthError> {
        let SignInSource { user_agent, context } = source;
        let now = context.at;
        let audience = self.audience(sign_in.audience.as_deref())?;
        self.check_address(AddressLimit::SignIn, context.address)?;
        let attempt = self.begin_attempt(&sign_in.login, &context).await?;
        let absolute_end = now + self.policy.session_lifetime;
        let session = NewSession {
            id: SessionId::from_random(random()),
            expires_at: (now + self.policy.refresh_token_lifetime).min(absolute_end),
            absolute_expires_at: absolute_end,
            user_agent,
            ip: context.address.map(|ip| ip.to_string()),
            network: context.address.map(network),
        };
        let user = match self.begin_session(&sign_in, &session, &context).await? {
            Begun::Session(user) => user,
            Begun::Refused { account } => {
                self.note_failure(attempt, Action::Signin, account, &context).await;
                return Err(AuthError::InvalidCredentials);
            }
            // Replaced twice. The password was right both times, so the client may try again.
            Begun::Replaced => return Err(AuthError::Overloaded),
        };
        self.note_success(attempt).await;

        let grant = Grant { user: &user, session: session.id, session_end: session.absolute_expires_at, audience };
        let access = self.tokens.mint_access(&grant, now)?;
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
    async fn begin_session(
        &self,
        sign_in: &SignIn,
        session: &NewSession,
        context: &AuditContext,
    ) -> Result<Begun, AuthError> {
        match self.try_to_begin(sign_in, session, Outdated::Rehash, context).await? {
            // Either another sign-in rehashed the same password, or the password was changed: the second attempt shows
            // which. It does not rehash, because replicas with different parameters would undo each other's work.
            Begun::Replaced => self.try_to_begin(sign_in, session, Outdated::Keep, context).await,
            begun => Ok(begun),
        }
    }

    async fn try_to_begin(
        &self,
        sign_in: &SignIn,
        session: &NewSession,
        outdated: Outdated,
        context: &AuditContext,
    ) -> Result<Begun, AuthError> {
        // First, so that in a flood a refused sign-in costs no query.
        let permit = self.passwords.try_acquire()?;
        let max_sessions = self.policy.max_sessions;
        let account = self.storage.credentials(&sign_in.login, max_sessions, context.at).await?;

        // An unknown account costs the same work as a known one: the time must not reveal whether an account exists.
        let stored = account.as_ref().map(|account| account.password_hash.clone());
        let verdict = self.passwords.verify(permit, sign_in.password.clone(), stored).await?;

        let id = account.as_ref().map(|account| account.id);
        let (Some(account), Verdict::Right { rehashed }) = (account.filter(|account| account.is_active), verdict)
        else {
            return Ok(Begun::Refused { account: id });
        };
        // Concurrent sign-ins may exceed the limit; the next sign-in enforces it.
        let limit = account.has_max_sessions.then_some(max_sessions);
        let verified = &account.password_hash;
        let rehashed = rehashed.as_ref().filter(|_| outdated == Outdated::Rehash);
        let user = self.storage.begin_session(account.id, verified, rehashed, session, limit, context).await?;
        Ok(user.map_or(Begun::Replaced, Begun::Session))
    }
}
