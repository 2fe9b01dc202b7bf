//! Prepares the database before the service answers: wait for it, migrate it, create the first superuser.

use super::StartError;
use crate::{
    auth::{Auth, AuthError},
    clock::Clock,
    config::Settings,
    storage::{self, Follower, Storage, StorageError},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// How long the start waits for PostgreSQL before the service answers 503 and continues to wait.
const DB_STARTUP_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the service retries a database that was unavailable at the start.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The preparation of the database.
pub(super) struct Startup {
    pub settings: Settings,
    pub auth: Arc<Auth>,
    pub storage: Storage,
    pub clock: Clock,
}

impl Startup {
    /// Prepares the database. Returns `self` if PostgreSQL is not ready in time: [`Startup::finish`] then continues while
    /// the service serves.
    ///
    /// # Errors
    /// When a retry cannot help.
    pub async fn begin(self, follower: &mut Follower) -> Result<Option<Self>, StartError> {
        if self.storage.is_sqlite() {
            return self.run(follower).await.map(|()| None);
        }
        match timeout(DB_STARTUP_TIMEOUT, self.run(follower)).await {
            Ok(Ok(())) => return Ok(None),
            Ok(Err(error)) if !error.is_temporary() => return Err(error),
            Ok(Err(error)) => tracing::error!("{error}; answering 503 until it is back"),
            // Another replica may be migrating.
            Err(_) => tracing::warn!("the database is not ready yet; answering 503 until it is"),
        }
        Ok(Some(self))
    }

    /// Prepares the database as soon as it is available.
    ///
    /// # Errors
    /// When a retry cannot help.
    pub async fn finish(&self, follower: &mut Follower) -> Result<(), StartError> {
        while let Err(error) = self.run(follower).await {
            if !error.is_temporary() {
                return Err(error);
            }
            sleep(RETRY_INTERVAL).await;
        }
        tracing::info!("the database is ready");
        Ok(())
    }

    async fn run(&self, follower: &mut Follower) -> Result<(), StartError> {
        if self.storage.is_sqlite() || self.settings.database.migrate_on_start {
            for user in self.storage.migrate().await? {
                tracing::error!(user.id = user.0, "{}", storage::NAME_CONFLICT);
            }
        }
        // The service must know all revocations before it accepts the first token.
        follower.catch_up().await?;
        if let Some((email, password)) = self.settings.first_superuser() {
            match self.auth.user_admin().bootstrap(&email, &password, &self.clock.now().into()).await {
                Ok(Some(user)) => tracing::info!(user.id = user.id.0, "created the first superuser"),
                Ok(None) => {}
                Err(AuthError::Unavailable(reason)) => return Err(StorageError::Unavailable(reason).into()),
                Err(error) => return Err(StartError::Bootstrap(error)),
            }
        }
        Ok(())
    }
}
