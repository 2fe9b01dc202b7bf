//! The readiness and the gauges of this replica, for the operators' routes.

use super::Auth;
use crate::{
    domain::Timestamp,
    telemetry::{GaugeValues, dropped_log_lines},
};
use std::time::Duration;
use tokio::time::timeout;

/// How far the database's clock may differ from this replica's, in seconds: each replica dates tokens by its own clock.
const MAX_DATABASE_SKEW: i64 = 5;

/// How long all checks may take, so that a probe gets the reason before it times out.
const READINESS_TIMEOUT: Duration = Duration::from_millis(2500);

/// The result of each check: `ok`, or what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    pub database: &'static str,
    pub migrations: &'static str,
    pub revocations: &'static str,
    pub clock: &'static str,
}

impl Readiness {
    const UNKNOWN: Self =
        Self { database: "unavailable", migrations: "unknown", revocations: "unknown", clock: "unknown" };

    pub fn is_ready(&self) -> bool {
        [self.database, self.migrations, self.revocations, self.clock].iter().all(|check| *check == "ok")
    }
}

impl Auth {
    /// Checks everything that this replica needs to serve.
    pub async fn readiness(&self, now: Timestamp) -> Readiness {
        timeout(READINESS_TIMEOUT, self.check(now)).await.unwrap_or(Readiness::UNKNOWN)
    }

    async fn check(&self, now: Timestamp) -> Readiness {
        let storage = &self.storage;
        if !storage.is_in_place().await {
            return Readiness { database: "replaced", ..Readiness::UNKNOWN };
        }
        if storage.ping().await.is_err() {
            return Readiness::UNKNOWN;
        }
        let migrations = if storage.is_migrated().await == Ok(true) { "ok" } else { "pending" };
        if migrations == "ok" && storage.reaches_tables().await.is_err() {
            return Readiness::UNKNOWN;
        }
        let clock = match storage.clock().await {
            Ok(Some(theirs)) if (now - theirs).0.abs() > MAX_DATABASE_SKEW => "skewed",
            Ok(_) => "ok",
            Err(_) => return Readiness::UNKNOWN,
        };
        let revocations = if storage.knows_revocations() { "ok" } else { "stale" };
        Readiness { database: "ok", migrations, revocations, clock }
    }

    /// The current values of the gauges.
    pub fn gauges(&self) -> GaugeValues {
        let (connections_in_use, connections_idle) = self.storage.connections();
        GaugeValues {
            revocations: self.storage.revoked_count(),
            feed_age: self.storage.feed_age(),
            hash_queue: self.passwords.waiting(),
            connections_in_use,
            connections_idle,
            log_lines_dropped: dropped_log_lines(),
        }
    }
}
