//! Numbers for Prometheus, in its text format (`OpenMetrics` 1.0).

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{sync::atomic::AtomicU64, time::Duration};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Table {
    table: &'static str,
}

/// Every metric there is.
pub struct Metrics {
    registry: Registry,
    purged_rows: Family<Table, Counter>,
    revocations: Gauge,
    feed_age: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// The content type of [`Metrics::render`].
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Counts rows that had expired and were deleted.
    pub fn purged(&self, table: &'static str, rows: usize) {
        self.purged_rows.get_or_create(&Table { table }).inc_by(rows as u64);
    }

    /// Everything as Prometheus reads it: what was counted so far, and what is as of now. `feed_age` is `None` until the
    /// feed was read once.
    pub fn render(&self, revocations: usize, feed_age: Option<Duration>) -> String {
        self.revocations.set(i64::try_from(revocations).unwrap_or(i64::MAX));
        self.feed_age.set(feed_age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("signet");
        let (purged_rows, revocations, feed_age) = (Family::default(), Gauge::default(), Gauge::default());
        registry.register("purged_rows", "Rows that had expired and were deleted, by table", purged_rows.clone());
        registry.register(
            "revocations",
            "Ended sessions and revoked tokens that this replica refuses from memory",
            revocations.clone(),
        );
        registry.register(
            "revocation_feed_age_seconds",
            "How long ago this replica read the feed of revocations to its end",
            feed_age.clone(),
        );
        Self { registry, purged_rows, revocations, feed_age }
    }
}
