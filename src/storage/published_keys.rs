//! Which keys replicas have published, and since when: what a replica that starts could not know by itself.

use super::{Storage, StorageError};
use crate::domain::{Algorithm, Publication, Timestamp};

impl Storage {
    /// Every key that a replica has told of.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn publications(&self) -> Result<Vec<Publication>, StorageError> {
        const SQL: &str = "SELECT kid, algorithm, published_at, seen_at FROM published_keys ORDER BY kid, algorithm";
        // Asked by who starts, again and again until the tables are there; the log has said why it waits.
        let rows: Vec<(String, String, i64, i64)> =
            self.run(|| async { self.connection().await?.query(SQL).fetch_all().await }).await?;
        // An algorithm that only a newer version knows is none that this one signs with.
        let known = |(kid, algorithm, since, seen_at): (String, String, i64, i64)| {
            let algorithm = Algorithm::parse(&algorithm)?;
            Some(Publication { kid, algorithm, since: Timestamp(since), seen_at: Timestamp(seen_at) })
        };
        Ok(rows.into_iter().filter_map(known).collect())
    }

    /// Tells other replicas of the keys of this one. Since when a key is published says who told of it first; when nobody
    /// had it any more, it was away, and counts from when it came back.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn record_publications(&self, keys: &[Publication]) -> Result<(), StorageError> {
        const SQL: &str = "INSERT INTO published_keys (kid, algorithm, published_at, seen_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (kid, algorithm) DO UPDATE SET seen_at = $4, published_at = \
             CASE WHEN published_keys.seen_at < $5 THEN $3 ELSE published_keys.published_at END \
             WHERE published_keys.seen_at < $4";
        self.write(|| async {
            let mut tx = self.begin().await?;
            for key in keys {
                let insert = tx.query(SQL).bind(key.kid.as_str()).bind(key.algorithm.name()).bind(key.since.0);
                let still_there = key.seen_at - Publication::STILL;
                insert.bind(key.seen_at.0).bind(still_there.0).execute().await?;
            }
            tx.commit().await
        })
        .await
    }
}
