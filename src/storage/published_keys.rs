//! Which keys replicas have published, and since when: what a replica that starts could not know by itself.

use super::{Storage, StorageError, work::on};
use crate::domain::{Algorithm, Publication, Timestamp};

impl Storage {
    /// Every key that a replica has told of.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn publications(&self) -> Result<Vec<Publication>, StorageError> {
        const SQL: &str = "SELECT kid, algorithm, published_at FROM published_keys ORDER BY kid, algorithm";
        let rows: Vec<(String, String, i64)> =
            on!(read self, |connection| sqlx::query_as(SQL).fetch_all(connection).await).await?;
        // An algorithm that only a newer version knows is none that this one signs with.
        let known = |(kid, algorithm, since): (String, String, i64)| {
            Some(Publication { kid, algorithm: Algorithm::parse(&algorithm)?, since: Timestamp(since) })
        };
        Ok(rows.into_iter().filter_map(known).collect())
    }

    /// Tells other replicas of the keys of this one; who told first is believed.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn record_publications(&self, keys: &[Publication]) -> Result<(), StorageError> {
        const SQL: &str = "INSERT INTO published_keys (kid, algorithm, published_at) VALUES ($1, $2, $3) \
             ON CONFLICT DO NOTHING";
        let known = self.publications().await?;
        let is_new = |key: &&Publication| !known.iter().any(|known| known.is_of(&key.kid, key.algorithm));
        let new: Vec<&Publication> = keys.iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        on!(write self, |tx| {
            for key in &new {
                let insert = sqlx::query(SQL).bind(&key.kid).bind(key.algorithm.name()).bind(key.since.0);
                insert.execute(&mut *tx).await?;
            }
        })
        .await
    }
}
