//! Metrics for Prometheus, in the text format `OpenMetrics` 1.0, named by its conventions: base units, and `_total` for
//! counters.

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry, Unit},
};
use std::{borrow::Cow, sync::atomic::AtomicU64, time::Duration};

/// A label and its value.
type Label<T = &'static str> = [(&'static str, T); 1];
/// The method and the route of a request.
type Route = [(&'static str, Cow<'static, str>); 2];

const SIGN_INS: [&str; 6] = ["ok", "invalid", "limited", "overloaded", "unavailable", "gone"];
const REFRESHES: [&str; 8] =
    ["rotated", "repeated", "renewed", "superseded", "reused", "limited", "invalid", "unavailable"];
const LIMITS: [&str; 5] = ["signin_per_address", "create_per_address", "refresh_per_address", "account", "code"];

/// How long requests waited for a hash thread.
#[derive(Debug, Clone)]
pub struct HashWaits(Histogram);

impl HashWaits {
    pub fn note(&self, wait: Duration) {
        self.0.observe(wait.as_secs_f64());
    }
}

impl Default for HashWaits {
    fn default() -> Self {
        // From half a millisecond to 4 s, which is more than any sensible `passwords.queue_timeout`.
        Self(Histogram::new(exponential_buckets(0.0005, 2.0, 14)))
    }
}

/// The current values that other modules count.
#[derive(Debug, Clone, Copy, Default)]
pub struct GaugeValues {
    /// Ended sessions and revoked tokens that this replica holds in memory.
    pub revocations: usize,
    /// `None` until the feed has been read once.
    pub feed_age: Option<Duration>,
    /// Passwords that wait for a hash thread.
    pub hash_queue: usize,
    pub connections_in_use: usize,
    pub connections_idle: usize,
    /// Since the start of the process.
    pub log_lines_dropped: u64,
}

/// Every metric.
pub struct Metrics {
    registry: Registry,
    requests: Family<(Route, Label<u32>), Counter>,
    durations: Family<Route, Histogram>,
    sign_ins: Family<Label, Counter>,
    refreshes: Family<Label, Counter>,
    rate_limited: Family<Label, Counter>,
    hash_queue: Gauge,
    connections: Family<Label, Gauge>,
    purged_rows: Family<Label, Counter>,
    revocations: Gauge,
    feed_age: Gauge<f64, AtomicU64>,
    log_lines_dropped: Counter,
}

impl Metrics {
    /// The content type of [`Metrics::render`].
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    pub fn new(hash_waits: HashWaits) -> Self {
        let mut registry = Registry::default();
        let requests = add(&mut registry, "http_requests", "Answered requests");
        // From a quarter of a millisecond, the time of a token check, to 8 s, by which every request has timed out.
        let durations: Family<Route, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.00025, 2.0, 16)));
        let help = "How long requests took, by the template of their route";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, durations.clone());
        let ours = registry.sub_registry_with_prefix("signet");
        let help = "How long passwords waited for a hash thread";
        ours.register_with_unit("hash_wait", help, Unit::Seconds, hash_waits.0);
        let feed_age = Gauge::default();
        let help = "How long ago this replica read the feed of revocations to its end";
        ours.register_with_unit("revocation_feed_age", help, Unit::Seconds, feed_age.clone());
        let metrics = Self {
            requests,
            durations,
            sign_ins: add(ours, "signin", "Sign-ins, by outcome"),
            refreshes: add(ours, "refresh", "Refreshes, by outcome"),
            rate_limited: add(ours, "rate_limited", "Requests that a limit refused, by limit"),
            hash_queue: add(ours, "hash_queue_depth", "Passwords that wait for a hash thread"),
            connections: add(ours, "pool_connections", "Connections to the database"),
            purged_rows: add(ours, "purged_rows", "Expired rows that were deleted, by table"),
            revocations: add(
                ours,
                "revocations",
                "Ended sessions and revoked tokens that this replica holds in memory",
            ),
            feed_age,
            log_lines_dropped: add(
                ours,
                "log_lines_dropped",
                "Log lines that were dropped because standard output did not accept them in time",
            ),
            registry,
        };
        // Every series starts at 0: Prometheus sees no increase in a counter that first appears at 1.
        for (family, label, values) in [
            (&metrics.sign_ins, "outcome", &SIGN_INS[..]),
            (&metrics.refreshes, "outcome", &REFRESHES),
            (&metrics.rate_limited, "limit", &LIMITS),
        ] {
            for value in values {
                drop(family.get_or_create(&[(label, value)]));
            }
        }
        metrics
    }

    /// Counts a response. `route` is a template, so a request for an unknown path adds no series.
    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let route: Route = [("method", known_method(method).into()), ("route", route.to_owned().into())];
        self.durations.get_or_create(&route).observe(took.as_secs_f64());
        self.requests.get_or_create(&(route, [("status", status.into())])).inc();
    }

    pub fn signed_in(&self, outcome: &'static str) {
        self.sign_ins.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub fn refreshed(&self, outcome: &'static str) {
        self.refreshes.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts a request that the limit of this name refused.
    pub fn rate_limited(&self, limit: &'static str) {
        self.rate_limited.get_or_create(&[("limit", limit)]).inc();
    }

    /// Counts expired rows that were deleted.
    pub fn purged(&self, table: &'static str, rows: usize) {
        self.purged_rows.get_or_create(&[("table", table)]).inc_by(rows as u64);
    }

    /// All metrics in Prometheus's text format.
    pub fn render(&self, now: GaugeValues) -> String {
        let set = |gauge: &Gauge, count: usize| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        set(&self.revocations, now.revocations);
        set(&self.hash_queue, now.hash_queue);
        for (state, count) in [("in_use", now.connections_in_use), ("idle", now.connections_idle)] {
            set(&self.connections.get_or_create(&[("state", state)]), count);
        }
        self.feed_age.set(now.feed_age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
        self.log_lines_dropped.inc_by(now.log_lines_dropped.saturating_sub(self.log_lines_dropped.get()));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Registers a metric.
fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// The label of a method. A client can send any word as the method, so only these have series of their own.
fn known_method(method: &str) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    METHODS.into_iter().find(|known| *known == method).unwrap_or("other")
}
