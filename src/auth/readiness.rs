//! Whether this replica can serve, and the figures of its database for the metrics.

use super::Auth;
use crate::domain::Timestamp;
use std::time::Duration;

/// The greatest difference between the database's clock and this replica's, in seconds: each replica dates its tokens by
/// its own clock.
const MAX_SKEW: i64 = 5;

/// Each is `ok`, or a word on what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    pub database: &'static str,
    pub migrations: &'static str,
    pub revocations: &'static str,
    pub clock: &'static str,
}

impl Readiness {
    /// The database does not answer, so nothing else is known.
    pub const UNAVAILABLE: Self =
        Self { database: "unavailable", migrations: "unknown", revocations: "unknown", clock: "unknown" };
}

/// The figures of the storage that the metrics show.
#[derive(Debug, Clone, Copy)]
pub struct StorageFigures {
    pub connections_in_use: usize,
    pub connections_idle: usize,
    pub revocations: usize,
    pub feed_age: Option<Duration>,
}

impl Auth {
    /// Checks whether this replica can serve. Sets no deadline. `now` is read after the database has told its clock.
    pub async fn readiness(&self, now: impl Fn() -> Timestamp) -> Readiness {
        if !self.storage.is_in_place().await {
            return Readiness { database: "replaced", ..Readiness::UNAVAILABLE };
        }
        if self.storage.ping().await.is_err() {
            return Readiness::UNAVAILABLE;
        }
        let is_migrated = matches!(self.storage.is_migrated().await, Ok(true));
        // Without the migrations the tables may be missing, and that is not an outage.
        if is_migrated && self.storage.reaches_tables().await.is_err() {
            return Readiness::UNAVAILABLE;
        }
        let clock = match self.storage.clock().await {
            Ok(Some(of_database)) if (now() - of_database).0.abs() > MAX_SKEW => "skewed",
            Ok(_) => "ok",
            Err(_) => return Readiness::UNAVAILABLE,
        };
        Readiness {
            database: "ok",
            migrations: if is_migrated { "ok" } else { "pending" },
            revocations: if self.storage.knows_revocations() { "ok" } else { "stale" },
            clock,
        }
    }

    pub fn storage_figures(&self) -> StorageFigures {
        let (connections_in_use, connections_idle) = self.storage.connections();
        StorageFigures {
            connections_in_use,
            connections_idle,
            revocations: self.storage.revoked_count(),
            feed_age: self.storage.feed_age(),
        }
    }
}
