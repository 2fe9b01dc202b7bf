//! The checks of the database that `readyz` makes.

use super::{
    Storage, StorageError,
    pool::{Pool, postgres::InRecovery},
};
use crate::domain::Timestamp;

impl Storage {
    /// Checks that the database answers and is not a standby.
    pub async fn ping(&self) -> Result<(), StorageError> {
        let sql = if self.is_sqlite() { "SELECT FALSE" } else { "SELECT pg_is_in_recovery()" };
        self.run(|| async {
            let mut connection = self.connection().await?;
            let (is_in_recovery,) = connection.query(sql).fetch_one().await?;
            if is_in_recovery {
                connection.close();
                return Err(InRecovery.into());
            }
            Ok(())
        })
        .await
    }

    /// Whether SQLite's file is still where it was opened; always true for PostgreSQL.
    pub async fn is_in_place(&self) -> bool {
        match &self.pool {
            Pool::Postgres(_) => true,
            Pool::Sqlite { file, .. } => file.is_in_place().await,
        }
    }

    /// Reads the tables that every request needs: another program may have locked them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn reaches_tables(&self) -> Result<(), StorageError> {
        const SQL: &str = "SELECT EXISTS (SELECT 1 FROM users) OR EXISTS (SELECT 1 FROM sessions)";
        self.run(|| async { self.connection().await?.query(SQL).execute().await.map(drop) }).await
    }

    /// The database's clock; `None` for SQLite, whose clock is this machine's.
    pub async fn clock(&self) -> Result<Option<Timestamp>, StorageError> {
        const SQL: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)";
        if self.is_sqlite() {
            return Ok(None);
        }
        let (seconds,) = self.run(|| async { self.connection().await?.query(SQL).fetch_one().await }).await?;
        Ok(Some(Timestamp(seconds)))
    }
}
