//! Questions that tell `readyz` whether the database is well.

use super::{Pool, Storage, StorageError, postgres::InRecovery, work::on};
use crate::domain::Timestamp;

impl Storage {
    /// Asks the database whether it is one to work with.
    ///
    /// # Errors
    /// When it does not answer, or is a standby.
    pub async fn ping(&self) -> Result<(), StorageError> {
        let sql = if self.is_sqlite() { "SELECT FALSE" } else { "SELECT pg_is_in_recovery()" };
        on!(ask self, |connection| {
            let is_in_recovery: bool = sqlx::query_scalar(sql).fetch_one(connection).await?;
            if is_in_recovery { Err(InRecovery.into()) } else { Ok(()) }
        })
        .await
    }

    /// Whether SQLite's file is still where it was opened; always so for PostgreSQL.
    pub async fn is_in_place(&self) -> bool {
        match &self.pool {
            Pool::Postgres(_) => true,
            Pool::Sqlite { file, .. } => file.is_in_place().await,
        }
    }

    /// Looks into the tables that every request needs, which somebody may have locked.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn reaches_tables(&self) -> Result<(), StorageError> {
        const SQL: &str = "SELECT EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM sessions)";
        on!(ask self, |connection| sqlx::query(SQL).execute(connection).await.map(drop)).await
    }

    /// The database's clock in unix seconds; `None` for SQLite, whose clock is this machine's.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn clock(&self) -> Result<Option<Timestamp>, StorageError> {
        const SQL: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)";
        if self.is_sqlite() {
            return Ok(None);
        }
        let seconds = on!(ask self, |connection| sqlx::query_scalar(SQL).fetch_one(connection).await).await?;
        Ok(Some(Timestamp(seconds)))
    }
}
