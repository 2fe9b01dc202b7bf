//! Numbers for Prometheus, in its text format (`OpenMetrics` 1.0). Names follow its conventions: base units, `_total` for
//! what only grows, `http_…` for what every HTTP server counts.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::{sync::atomic::AtomicU64, time::Duration};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Table {
    table: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: &'static str,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    method: &'static str,
    route: String,
    status: u32,
}

const SIGN_INS: [&str; 5] = ["ok", "invalid", "overloaded", "unavailable", "gone"];
const REFRESHES: [&str; 7] = ["rotated", "repeated", "renewed", "superseded", "reused", "invalid", "unavailable"];

/// How long each had to wait for a hash thread.
#[derive(Debug, Clone)]
pub struct HashWaits(Histogram);

impl HashWaits {
    /// Notes one that was hashed after waiting for so long.
    pub fn note(&self, wait: Duration) {
        self.0.observe(wait.as_secs_f64());
    }
}

impl Default for HashWaits {
    fn default() -> Self {
        // From half a millisecond to 4 s, which is beyond every sensible `passwords.queue_timeout`.
        Self(Histogram::new(exponential_buckets(0.0005, 2.0, 14)))
    }
}

/// What is counted elsewhere, as of now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Levels {
    /// Sessions and tokens that are refused from memory.
    pub revocations: usize,
    /// `None` until the feed was read once.
    pub feed_age: Option<Duration>,
    /// Passwords that wait for a hash thread.
    pub hash_queue: usize,
    pub connections_in_use: usize,
    pub connections_idle: usize,
    /// Since the start of the process.
    pub log_lines_dropped: u64,
}

/// Every metric there is.
pub struct Metrics {
    registry: Registry,
    requests: Family<Answer, Counter>,
    durations: Family<Route, Histogram>,
    sign_ins: Family<Outcome, Counter>,
    refreshes: Family<Outcome, Counter>,
    hash_queue: Gauge,
    connections: Family<ConnectionState, Gauge>,
    purged_rows: Family<Table, Counter>,
    revocations: Gauge,
    feed_age: Gauge<f64, AtomicU64>,
    log_lines_dropped: Counter,
}

impl Metrics {
    /// The content type of [`Metrics::render`].
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Every metric, and `hash_waits` among them.
    pub fn new(hash_waits: HashWaits) -> Self {
        // From a quarter of a millisecond, which a check of a token takes, to 8 s, beyond which a request has long failed.
        let durations = || Histogram::new(exponential_buckets(0.00025, 2.0, 16));
        let metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(durations),
            sign_ins: Family::default(),
            refreshes: Family::default(),
            hash_queue: Gauge::default(),
            connections: Family::default(),
            purged_rows: Family::default(),
            revocations: Gauge::default(),
            feed_age: Gauge::default(),
            log_lines_dropped: Counter::default(),
        };
        let mut registry = Registry::default();
        registry.register("http_requests", "Answered requests", metrics.requests.clone());
        let what = "How long requests took, by the template of their route";
        registry.register_with_unit("http_request_duration", what, Unit::Seconds, metrics.durations.clone());
        let ours = registry.sub_registry_with_prefix("signet");
        ours.register("signin", "Sign-ins, by what came of them", metrics.sign_ins.clone());
        ours.register("refresh", "Refreshes, by what came of them", metrics.refreshes.clone());
        ours.register("hash_queue_depth", "Passwords that wait for a hash thread", metrics.hash_queue.clone());
        ours.register_with_unit(
            "hash_wait",
            "How long passwords waited for a hash thread",
            Unit::Seconds,
            hash_waits.0,
        );
        ours.register("pool_connections", "Connections to the database", metrics.connections.clone());
        ours.register("purged_rows", "Rows that had expired and were deleted, by table", metrics.purged_rows.clone());
        ours.register(
            "revocations",
            "Ended sessions and revoked tokens that this replica refuses from memory",
            metrics.revocations.clone(),
        );
        ours.register_with_unit(
            "revocation_feed_age",
            "How long ago this replica read the feed of revocations to its end",
            Unit::Seconds,
            metrics.feed_age.clone(),
        );
        ours.register(
            "log_lines_dropped",
            "Log lines that were dropped because standard output did not take them in time",
            metrics.log_lines_dropped.clone(),
        );
        // From zero: what appears with a one has not grown for who reads it.
        for outcome in SIGN_INS {
            drop(metrics.sign_ins.get_or_create(&Outcome { outcome }));
        }
        for outcome in REFRESHES {
            drop(metrics.refreshes.get_or_create(&Outcome { outcome }));
        }
        Self { registry, ..metrics }
    }

    /// Counts an answer. `route` is a template: a request for a path that does not exist adds no series.
    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let method = known_method(method);
        let answer = Answer { method, route: route.to_owned(), status: status.into() };
        self.requests.get_or_create(&answer).inc();
        let Answer { method, route, .. } = answer;
        self.durations.get_or_create(&Route { method, route }).observe(took.as_secs_f64());
    }

    /// Counts a sign-in.
    pub fn signed_in(&self, outcome: &'static str) {
        self.sign_ins.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a refresh.
    pub fn refreshed(&self, outcome: &'static str) {
        self.refreshes.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts rows that had expired and were deleted.
    pub fn purged(&self, table: &'static str, rows: usize) {
        self.purged_rows.get_or_create(&Table { table }).inc_by(rows as u64);
    }

    /// Everything as Prometheus reads it: what was counted so far, and what is as of now.
    pub fn render(&self, now: Levels) -> String {
        let set = |gauge: &Gauge, count: usize| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        set(&self.revocations, now.revocations);
        set(&self.hash_queue, now.hash_queue);
        for (state, count) in [("in_use", now.connections_in_use), ("idle", now.connections_idle)] {
            set(&self.connections.get_or_create(&ConnectionState { state }), count);
        }
        self.feed_age.set(now.feed_age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
        self.log_lines_dropped.inc_by(now.log_lines_dropped.saturating_sub(self.log_lines_dropped.get()));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Methods are words that a client makes up; only these have series of their own.
fn known_method(method: &str) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    METHODS.into_iter().find(|known| *known == method).unwrap_or("other")
}
