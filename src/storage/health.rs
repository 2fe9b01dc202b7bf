//! Questions that tell whether the database is well. They are no work: what they find is for `readyz`, not for the log.

use super::{Pool, Storage, StorageError, work::on};
use crate::domain::Timestamp;

impl Storage {
    /// Asks the database for nothing.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ping(&self) -> Result<(), StorageError> {
        const SQL: &str = "SELECT 1";
        let ping = async || match &self.pool {
            Pool::Postgres(pools) => {
                on!(@held pools.here(), |connection| sqlx::query(SQL).execute(connection).await.map(drop))
            }
            Pool::Sqlite { read, .. } => {
                on!(@held read, |connection| sqlx::query(SQL).execute(connection).await.map(drop))
            }
        };
        // Not `run`: an answer to this says nothing about the tables.
        self.attempt(ping).await
    }

    /// The database's clock in unix seconds; `None` for SQLite, whose clock is this machine's.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn clock(&self) -> Result<Option<Timestamp>, StorageError> {
        const SQL: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)";
        let Pool::Postgres(pools) = &self.pool else { return Ok(None) };
        let seconds = self
            .attempt(async || on!(@held pools.here(), |connection| sqlx::query_scalar(SQL).fetch_one(connection).await))
            .await?;
        Ok(Some(Timestamp(seconds)))
    }
}
