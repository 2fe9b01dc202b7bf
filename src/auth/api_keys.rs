//! A user makes API keys for programs; a program exchanges its key for access tokens.

use super::{Auth, AuthError, Caller, IssuedToken, clients::sha256};
use crate::{
    domain::{
        Action, ApiKey, ApiKeyLifetime, ApiKeySecret, AuditContext, DisplayName, Invalid, Password, SessionId,
        SessionState, Timestamp,
    },
    limits::AddressLimit,
    random::random,
    storage::ApiKeyCreated,
    tokens::Grant,
};

/// The properties that a user chooses for a new API key.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    pub name: DisplayName,
    /// `None` for a key that does not expire.
    pub lifetime: Option<ApiKeyLifetime>,
    /// The only audience that its access tokens can have; `None` for no restriction.
    pub audience: Option<String>,
}

/// A new API key and its secret, which Signet cannot show again.
#[derive(Debug, Clone)]
pub struct IssuedApiKey {
    pub key: ApiKey,
    pub secret: ApiKeySecret,
}

impl Auth {
    /// Makes an API key for the caller. The request must repeat the password: a key outlives access tokens, so a stolen
    /// access token must not be enough to make one.
    ///
    /// # Errors
    /// The audience is not configured, the password is wrong, the caller has the maximum number of keys, or the
    /// service is overloaded or unavailable.
    pub async fn create_api_key(
        &self,
        caller: &Caller,
        password: Password,
        new: NewApiKey,
        context: &AuditContext,
    ) -> Result<IssuedApiKey, AuthError> {
        let (user, context, now) = (&caller.user, &context.by(caller.user.id), context.at);
        self.audience(new.audience.as_deref())?;
        let verified = self.confirm_password(user, password, Action::ApiKeyCreate, context).await?;
        let secret = ApiKeySecret::from_random(random());
        let key = ApiKey {
            id: SessionId::from_random(random()),
            name: new.name.as_str().to_owned(),
            audience: new.audience,
            created_at: now,
            expires_at: new.lifetime.map(|lifetime| now + lifetime.seconds()),
            last_used_at: None,
        };
        let max = self.policy.max_api_keys;
        match self
            .storage
            .create_api_key((user, caller.session), &verified, &key, &sha256(secret.as_str()), max, context)
            .await?
        {
            ApiKeyCreated::Created => Ok(IssuedApiKey { key, secret }),
            ApiKeyCreated::TooMany => Err(AuthError::TooManyApiKeys),
            // The password was changed, the user was deactivated, or the session ended, while the password was hashed.
            ApiKeyCreated::Refused => Err(AuthError::InvalidCredentials),
        }
    }

    /// The caller's live API keys, the oldest first.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn list_api_keys(&self, caller: &Caller, now: Timestamp) -> Result<Vec<ApiKey>, AuthError> {
        Ok(self.storage.list_api_keys(caller.user.id, now).await?)
    }

    /// Ends an API key of the caller, and its access tokens.
    ///
    /// # Errors
    /// [`AuthError::NotFound`] if the caller has no such key, or the database is unavailable.
    pub async fn delete_api_key(
        &self,
        caller: &Caller,
        id: SessionId,
        context: &AuditContext,
    ) -> Result<(), AuthError> {
        let existed = self.storage.end_api_key(caller.user.id, id, &context.by(caller.user.id)).await?;
        existed.then_some(()).ok_or(AuthError::NotFound)
    }

    /// Exchanges an API key for an access token with the user's current username and roles. The token does not outlast
    /// the key.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`] if the key is unknown, has ended or expired, or its user is inactive;
    /// [`AuthError::InvalidMember`] if the key is for another audience, or the audience is not configured;
    /// [`AuthError::RateLimited`]; or the database is unavailable.
    pub async fn exchange_api_key(
        &self,
        text: &str,
        audience: Option<&str>,
        context: &AuditContext,
    ) -> Result<IssuedToken, AuthError> {
        self.check_address(AddressLimit::Refresh, context.address)?;
        let now = context.at;
        self.audience(audience)?;
        // Checked without the database: a mistyped key costs no query.
        let secret = ApiKeySecret::parse(text).ok_or(AuthError::InvalidToken)?;
        let (user, key) = self.storage.api_key(&sha256(secret.as_str()), now).await?.ok_or(AuthError::InvalidToken)?;
        let audience = match (&key.audience, audience) {
            (Some(own), Some(asked)) if own != asked => {
                return Err(AuthError::InvalidMember("/audience", Invalid("must be the audience of the API key")));
            }
            // Fails if the audience of the key was removed from the settings.
            (Some(own), _) => self.audience(Some(own)).map_err(|_| AuthError::InvalidToken)?,
            (None, asked) => self.audience(asked)?,
        };
        if key.last_used_at.is_none_or(|used| now - used >= SessionState::USE_IS_EXACT_TO) {
            // Only the list of keys shows this time, so a failure (storage logs it) does not refuse the request.
            let _ = self.storage.touch_api_key(key.id, now).await;
        }
        let session_end = key.expires_at.unwrap_or(Timestamp(i64::MAX));
        let grant = Grant { user: &user, session: key.id, session_end, audience };
        Ok(self.tokens.mint_access(&grant, now)?.into())
    }
}
