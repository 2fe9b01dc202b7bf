//! Authenticates clients, and makes, lists and deletes them for an operator.

use super::{Auth, AuthError};
use crate::{
    config::Settings,
    domain::{AuditContext, Client, ClientId, Invalid, Scopes},
    limits::AddressLimit,
    random::random,
    storage::Storage,
};
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long the metadata waits for the scopes from the database. After that it has the scopes that were last read.
const SCOPES_TIMEOUT: Duration = Duration::from_secs(1);

/// The id and the secret that a client presents.
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    pub id: String,
    pub secret: SecretString,
}

/// The properties that an operator chooses for a new client.
#[derive(Debug, Clone)]
pub struct NewClient {
    pub name: String,
    pub scopes: Scopes,
    /// The first one is the default.
    pub audiences: Vec<String>,
}

/// The administration of clients by the operator's commands.
pub struct ClientAdmin {
    storage: Storage,
    audience: Option<String>,
    audiences: Vec<String>,
}

impl ClientAdmin {
    pub fn new(storage: Storage, settings: &Settings) -> Self {
        let jwt = &settings.jwt;
        Self { storage, audience: jwt.audience.clone(), audiences: jwt.audiences.clone() }
    }

    /// Makes a client. Returns it with its secret: 256 random bits, which Signet cannot show again.
    ///
    /// # Errors
    /// An audience is not configured, or the database is unavailable.
    pub async fn create(&self, new: NewClient, context: &AuditContext) -> Result<(Client, SecretString), AuthError> {
        let is_known =
            |audience: &String| self.audience.as_ref() == Some(audience) || self.audiences.contains(audience);
        if !new.audiences.iter().all(is_known) {
            let fault = Invalid("must be jwt.audience or one of jwt.audiences");
            return Err(AuthError::InvalidMember("/audience", fault));
        }
        let NewClient { name, scopes, mut audiences } = new;
        let mut known = HashSet::new();
        audiences.retain(|audience| known.insert(audience.clone()));
        let client = Client { id: ClientId::from_random(random()), name, scopes, audiences, created_at: context.at };
        let secret: SecretString = URL_SAFE_NO_PAD.encode(random::<32>()).into();
        self.storage.create_client(&client, &sha256(secret.expose_secret()), context).await?;
        Ok((client, secret))
    }

    /// Every client, the oldest first.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn list(&self) -> Result<Vec<Client>, AuthError> {
        Ok(self.storage.list_clients().await?)
    }

    /// Deletes a client. Its secret is refused at once; its access tokens last until they expire.
    ///
    /// # Errors
    /// [`AuthError::NotFound`], or the database is unavailable.
    pub async fn delete(&self, id: ClientId, context: &AuditContext) -> Result<(), AuthError> {
        self.storage.delete_client(id, context).await?.then_some(()).ok_or(AuthError::NotFound)
    }
}

impl Auth {
    /// The client with these credentials. Failures count against the client address. The requests of an authenticated
    /// client are not limited, because it may act for many users.
    ///
    /// # Errors
    /// [`AuthError::InvalidClient`], [`AuthError::RateLimited`] after many failures, or the database is unavailable.
    pub async fn authenticate_client(
        &self,
        credentials: &ClientCredentials,
        address: Option<IpAddr>,
    ) -> Result<Client, AuthError> {
        let found = match ClientId::parse(&credentials.id) {
            Some(id) => self.storage.client(id).await?,
            None => None,
        };
        let is_right =
            |stored: &[u8]| verify_slices_are_equal(stored, &sha256(credentials.secret.expose_secret())).is_ok();
        match found {
            Some((client, stored)) if is_right(&stored) => Ok(client),
            _ => {
                self.check_address(AddressLimit::Refresh, address)?;
                Err(AuthError::InvalidClient)
            }
        }
    }

    /// The scopes of all clients. While the database is unavailable they are those that were last read.
    pub async fn client_scopes(&self) -> Arc<Vec<String>> {
        if let Ok(Ok(scopes)) = timeout(SCOPES_TIMEOUT, self.storage.client_scopes()).await {
            self.client_scopes.store(Arc::new(scopes));
        }
        self.client_scopes.load_full()
    }
}

/// The hash of a secret of 256 random bits. One round is enough, because such a secret cannot be guessed.
pub(super) fn sha256(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}
