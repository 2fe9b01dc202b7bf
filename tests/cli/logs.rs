//! What those who run it see: metrics, traces, lines of the log.

use crate::support::{
    Actor, TestApp,
    actor::http_client,
    all,
    postgres::free_port,
    process::{Killed, Service, send_signal, signet},
    within,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::Span,
};
use prost::Message;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    thread,
};

/// The names of all samples.
fn names(metrics: &str) -> BTreeSet<&str> {
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

#[tokio::test]
async fn metrics_count_what_was_answered_and_what_came_of_it() {
    let app = TestApp::with(&[("JWT__ROTATE_REFRESH_TOKENS", "true")]).await;
    let ann = app.user().await;
    let stranger = app.anon();
    stranger.post("/auth/signin", &json!({"email": ann.email, "password": "wrong"})).await;
    for _ in 0..2 {
        assert_eq!(app.refresh(&ann.refresh).await.status, 200);
    }
    app.refresh("no token").await;
    app.pass(100);
    assert_eq!(app.refresh(&ann.refresh).await.code(), "refresh-reused");
    stranger.get("/wp-login.php").await;
    stranger.send(Method::from_bytes(b"BREW").unwrap(), "/auth/signin", |request| request).await;
    let metrics = stranger.get("/metrics").await.text;
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
        |line| (!metrics.lines().any(|there| there == *line)).then(|| metrics.clone()),
    );
    let connections: Vec<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("signet_pool_connections{state=\"idle\"} ")).collect();
    assert!(connections[0].parse::<u32>().unwrap() > 0, "{connections:?}");
}

/// What a dashboard asks for in vain looks like silence.
#[tokio::test]
async fn every_metric_that_a_dashboard_or_an_alert_names_exists() {
    let app = TestApp::start().await;
    app.user().await;
    app.database.execute("UPDATE sessions SET expires_at = 1").await;
    let metrics = within(10, async {
        loop {
            let metrics = app.anon().get("/metrics").await.text;
            // The first purge comes soon after the start.
            if metrics.contains("signet_purged_rows_total{") {
                break metrics;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    let there = names(&metrics);
    let mut asked = BTreeSet::new();
    for file in ["deploy/grafana/signet.json", "deploy/prometheus/alerts.yaml"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let names = words.filter(|word| word.starts_with("signet_") || word.starts_with("http_request"));
        asked.extend(names.map(str::to_owned));
    }
    let asked: Vec<String> = asked.into_iter().collect();
    all("metrics that are asked for", &asked, Clone::clone, |name| {
        (!there.contains(name.as_str())).then(|| format!("is none of {there:?}"))
    });
    assert!(asked.len() >= 10, "{asked:?}");
}

#[tokio::test]
async fn a_line_of_the_log_is_one_object_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path(), &[("SIGNET__TELEMETRY__FORMAT", "json")]);
    let send = |request: reqwest::RequestBuilder| request.header("x-request-id", "mine-1");
    service.anon().send(Method::GET, "/auth/users/me?q=canary", send).await;
    service.signal("TERM");
    let log = service.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lines: Vec<&Value> = lines.iter().filter(|line| line["message"] == "answered").collect();
    assert_eq!(lines.len(), 1, "{log}");
    let expected = json!({
        "request.id": "mine-1", "http.method": "GET", "http.route": "/auth/users/me", "http.status": 401,
        "client.ip": "127.0.0.1", "level": "INFO",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&lines[0][name], value, "{name}: {log}");
    }
    assert!(lines[0]["duration_ms"].is_f64() && lines[0]["timestamp"].is_string(), "{log}");
}

/// Somebody who collects traces over OTLP/HTTP, on threads of its own: every body that came.
fn collector() -> (String, Arc<Mutex<Vec<ExportTraceServiceRequest>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collected = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&collected);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let into = Arc::clone(&into);
            thread::spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                let (mut length, mut line) = (0, String::new());
                while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
                    let header = line.to_ascii_lowercase();
                    assert!(!header.starts_with("post ") || header.starts_with("post /v1/traces "), "{header}");
                    if let Some(value) = header.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    if line == "\r\n" {
                        let mut body = vec![0; length];
                        stream.read_exact(&mut body).unwrap();
                        into.lock().unwrap().push(ExportTraceServiceRequest::decode(&body[..]).unwrap());
                        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                    }
                    line.clear();
                }
            });
        }
    });
    (endpoint, collected)
}

fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a Any> {
    attributes.iter().find(|pair| pair.key == name)?.value.as_ref()?.value.as_ref()
}

#[tokio::test]
async fn traces_go_to_a_collector_with_what_each_request_did() {
    const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    let (endpoint, collected) = collector();
    let folder = tempfile::tempdir().unwrap();
    let settings = [("SIGNET__TELEMETRY__OTLP_ENDPOINT", &*endpoint), ("SIGNET__SERVER__TRUSTED_PROXIES", "127.0.0.1")];
    let mut service = Service::start(folder.path(), &settings);
    let credentials = json!({"email": "canary@example.com", "password": "canary horse battery"});
    assert_eq!(service.anon().post("/auth/create", &credentials).await.status, 201);
    let send = |request: reqwest::RequestBuilder| {
        let request = request.header("traceparent", format!("00-{TRACE:032x}-b7ad6b7169203331-01"));
        request.header("content-type", "application/json").body(credentials.to_string())
    };
    assert_eq!(service.anon().send(Method::POST, "/auth/signin", send).await.status, 200);
    service.anon().get("/nowhere").await;
    assert_eq!(service.signal("TERM"), Some(0), "what is left is sent at the end");

    let collected = collected.lock().unwrap();
    let resources: Vec<_> = collected.iter().flat_map(|request| &request.resource_spans).collect();
    let service_name = attribute(&resources[0].resource.as_ref().unwrap().attributes, "service.name");
    assert_eq!(service_name, Some(&Any::StringValue("signet".to_owned())));
    let spans: Vec<&Span> =
        resources.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans).collect();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).copied().collect::<Vec<_>>();
    let sign_in = named("POST /auth/signin")[0];
    assert_eq!(sign_in.trace_id, TRACE.to_be_bytes(), "it is a part of the caller's trace");
    assert_eq!(attribute(&sign_in.attributes, "http.response.status_code"), Some(&Any::IntValue(200)));
    assert_eq!(attribute(&sign_in.attributes, "http.route"), Some(&Any::StringValue("/auth/signin".to_owned())));
    for part in ["hash", "database"] {
        let of_it = named(part).into_iter().filter(|span| span.parent_span_id == sign_in.span_id);
        assert!(of_it.count() > 0, "{part} in {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    }
    assert_eq!(named("GET -").len(), 1);
    assert!(!format!("{collected:?}").contains("canary"), "no secret, no address");
}

/// A trace is the operator's: it begins in a proxy of theirs.
#[tokio::test]
async fn a_client_that_is_no_trusted_proxy_joins_no_trace() {
    let (endpoint, collected) = collector();
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path(), &[("SIGNET__TELEMETRY__OTLP_ENDPOINT", &*endpoint)]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    service.anon().send(Method::GET, "/livez", |request| request.header("traceparent", trace)).await;
    assert_eq!(service.signal("TERM"), Some(0));
    let collected = format!("{:?}", collected.lock().unwrap());
    let theirs = format!("{:?}", 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert!(collected.contains("GET /livez") && !collected.contains(theirs.trim_matches(['[', ']'])), "{collected}");
}

/// Nobody waits for a collector that is away.
#[tokio::test]
async fn a_collector_that_is_away_costs_nobody_anything() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("http://{free}");
    let mut service = Service::start(folder.path(), &[("SIGNET__TELEMETRY__OTLP_ENDPOINT", &endpoint)]);
    for _ in 0..20 {
        assert_eq!(service.anon().get("/readyz").await.status, 200);
    }
    assert_eq!(service.signal("TERM"), Some(0));
    let log = service.log();
    assert_eq!(log.matches("the collector takes no traces").count(), 1, "{log}");
}

/// A service with this standard output, at a port that is free.
async fn service_that_logs_to(output: Stdio) -> (Killed, Actor, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let settings = [
        ("SIGNET__SERVER__BIND", &*address),
        ("SIGNET__SERVER__SHUTDOWN_TIMEOUT", "2s"),
        ("SIGNET__TELEMETRY__FORMAT", "json"),
    ];
    let child = Killed(signet(folder.path(), &settings).stdout(output).spawn().unwrap());
    within(10, async {
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let actor = Actor::new(http_client(), address.parse().unwrap(), None);
    (child, actor, folder)
}

async fn dropped_lines(actor: &Actor) -> u64 {
    let metrics = actor.get("/metrics").await.text;
    let line = metrics.lines().find(|line| line.starts_with("signet_log_lines_dropped_total ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// A pipe takes 64 KiB, some 250 lines, and the buffer 4,096 lines.
#[tokio::test]
async fn a_log_that_is_not_read_stops_neither_requests_nor_the_end() {
    let (mut child, actor, _folder) = service_that_logs_to(Stdio::piped()).await;
    for _ in 0..6000 {
        assert_eq!(within(3, actor.get("/livez")).await.status, 200);
    }
    assert!(dropped_lines(&actor).await > 0);
    let began = tokio::time::Instant::now();
    send_signal(&child.0, "TERM");
    let ended = tokio::task::spawn_blocking(move || child.0.wait().unwrap().code()).await.unwrap();
    assert!(ended == Some(0) && began.elapsed().as_secs() < 6, "{ended:?} after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_full_disk_behind_the_log_costs_lines_and_nothing_else() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (mut child, actor, _folder) = service_that_logs_to(full.into()).await;
    for _ in 0..200 {
        assert_eq!(within(3, actor.get("/livez")).await.status, 200);
    }
    within(10, async { while dropped_lines(&actor).await < 100 {} }).await;
    send_signal(&child.0, "TERM");
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}
