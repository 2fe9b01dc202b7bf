//! `GET /metrics`

use crate::support::{TestApp, all, within};
use reqwest::Method;
use serde_json::json;
use std::{collections::BTreeSet, fs, path::Path};

/// The names of all samples.
fn sample_names(metrics: &str) -> BTreeSet<&str> {
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

#[tokio::test]
async fn metrics_count_requests_and_their_outcomes() {
    let app = TestApp::with(&[("JWT__ROTATE_REFRESH_TOKENS", "true")]).await;
    let ann = app.user().await;
    let client = app.anon();
    client.post("/auth/signin", &json!({"email": ann.email, "password": "wrong"})).await;
    for _ in 0..2 {
        assert_eq!(app.refresh(&ann.refresh).await.status, 200);
    }
    app.refresh("no token").await;
    app.advance(100);
    assert_eq!(app.refresh(&ann.refresh).await.code(), "refresh-reused");
    client.get("/wp-login.php").await;
    client.send(Method::from_bytes(b"BREW").unwrap(), "/auth/signin", |request| request).await;
    let metrics = client.get("/metrics").await.text;
    let lines = [
        "http_requests_total{method=\"POST\",route=\"/auth/create\",status=\"201\"} 1",
        "http_requests_total{method=\"POST\",route=\"/auth/signin\",status=\"200\"} 1",
        "http_requests_total{method=\"POST\",route=\"/auth/signin\",status=\"401\"} 1",
        "http_requests_total{method=\"other\",route=\"/auth/signin\",status=\"405\"} 1",
        "http_requests_total{method=\"GET\",route=\"-\",status=\"404\"} 1",
        "http_request_duration_seconds_count{method=\"POST\",route=\"/auth/signin\"} 2",
        "signet_signin_total{outcome=\"ok\"} 1",
        "signet_signin_total{outcome=\"invalid\"} 1",
        "signet_signin_total{outcome=\"overloaded\"} 0",
        "signet_refresh_total{outcome=\"rotated\"} 1",
        "signet_refresh_total{outcome=\"repeated\"} 1",
        "signet_refresh_total{outcome=\"reused\"} 1",
        "signet_refresh_total{outcome=\"invalid\"} 1",
        "signet_hash_queue_depth 0",
        "signet_hash_wait_seconds_count 3",
        "signet_revocations 1",
    ];
    all(
        "metrics",
        &lines,
        |line| (*line).to_owned(),
        |line| (!metrics.lines().any(|sample| sample == *line)).then(|| metrics.clone()),
    );
    let connections: Vec<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("signet_pool_connections{state=\"idle\"} ")).collect();
    assert!(connections[0].parse::<u32>().unwrap() > 0, "{connections:?}");
}

/// A dashboard shows a missing metric like one without events.
#[tokio::test]
async fn every_metric_that_a_dashboard_or_an_alert_names_exists() {
    let app = TestApp::start().await;
    app.user().await;
    app.database.execute("UPDATE sessions SET expires_at = 1").await;
    let metrics = within(10, async {
        loop {
            let metrics = app.anon().get("/metrics").await.text;
            // The service purges for the first time soon after its start.
            if metrics.contains("signet_purged_rows_total{") {
                break metrics;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    let existing = sample_names(&metrics);
    let mut used = BTreeSet::new();
    for file in ["deploy/grafana/signet.json", "deploy/prometheus/alerts.yaml"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let names = words.filter(|word| word.starts_with("signet_") || word.starts_with("http_request"));
        used.extend(names.map(str::to_owned));
    }
    let used: Vec<String> = used.into_iter().collect();
    all("metrics in use", &used, Clone::clone, |name| {
        (!existing.contains(name.as_str())).then(|| format!("is not among {existing:?}"))
    });
    assert!(used.len() >= 10, "{used:?}");
}

#[tokio::test]
async fn metrics_report_the_age_of_the_revocation_feed() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.sign_out(&ann.refresh).await;
    let reply = app.anon().get("/metrics").await;
    assert_eq!(reply.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(reply.text.contains("\nsignet_revocations 1\n"), "{}", reply.text);
    let age = reply.text.lines().find_map(|line| line.strip_prefix("signet_revocation_feed_age_seconds ")).unwrap();
    assert!((0.0..10.0).contains(&age.parse::<f64>().unwrap()), "{age}");
    assert!(reply.text.ends_with("# EOF\n"));
}
