//! Log lines, and an output that blocks or fails

use crate::support::{
    Actor, Endpoint,
    actor::TokenNames,
    eventually,
    process::{KillOnDrop, Service, free_port, signet},
    within,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{fs, process::Stdio};

#[tokio::test]
async fn each_request_logs_one_json_object() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path(), &[("SIGNET__TELEMETRY__FORMAT", "json")]);
    let send = |request: reqwest::RequestBuilder| request.header("x-request-id", "mine-1");
    service.anon().send(Method::GET, "/auth/users/me?q=canary", send).await;
    // Probes are logged only if they fail, or with `debug`.
    for probe in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(service.anon().get(probe).await.status, 200);
    }
    service.end_with("TERM");
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

#[tokio::test]
async fn no_log_line_contains_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("SIGNET__TELEMETRY__LOG", "debug"), ("SIGNET__TELEMETRY__FORMAT", "json")];
    let mut service = Service::start(folder.path(), &environment);
    let credentials = json!({"email": "canary-address@example.com", "password": "canary password"});
    service.anon().post("/auth/create", &credentials).await;
    let tokens = service.try_sign_in("canary-address@example.com", "canary password").await;
    service.try_sign_in("canary-address@example.com", "canary wrong").await;
    service.refresh(tokens.string("refresh_token")).await;
    service.anon().get("/auth/users?q=canary-address&access_token=canary-token").await;
    let access = tokens.string("access_token");
    service.bearer(access).get("/auth/users?q=canary-address").await;
    // The log thread writes lines after the replies; a service that is killed loses the last ones.
    assert_eq!(service.end_with("TERM"), Some(0));
    let text = service.welcome.clone() + &service.log();
    let lines = text.lines().filter(|line| line.contains("\"answered\"")).count();
    assert_eq!(lines, 6, "one line for each request");
    let signature = access.rsplit('.').next().unwrap();
    for line in text.lines() {
        for secret in ["canary", signature, "$argon2"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

/// A service with this standard output.
async fn service_that_logs_to(output: Stdio) -> (KillOnDrop, Actor, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let settings = [
        ("SIGNET__SERVER__BIND", &*address),
        ("SIGNET__SERVER__SHUTDOWN_TIMEOUT", "2s"),
        ("SIGNET__TELEMETRY__FORMAT", "json"),
    ];
    let mut child = KillOnDrop(signet(folder.path(), &settings).stdout(output).spawn().unwrap());
    assert!(within(10, child.accepts_connections(&address)).await);
    let actor = Endpoint::new(address.parse().unwrap(), TokenNames::Default).anon();
    (child, actor, folder)
}

async fn dropped_lines(actor: &Actor) -> u64 {
    let metrics = actor.get("/metrics").await.text;
    let line = metrics.lines().find(|line| line.starts_with("signet_log_lines_dropped_total ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// A pipe holds 64 KiB, about 250 lines, and the buffer 4,096 lines.
#[tokio::test]
async fn an_unread_log_delays_neither_requests_nor_shutdown() {
    let (mut child, actor, _folder) = service_that_logs_to(Stdio::piped()).await;
    for _ in 0..6000 {
        assert_eq!(within(3, actor.get("/.well-known/jwks.json")).await.status, 200);
    }
    assert!(dropped_lines(&actor).await > 0);
    let began = tokio::time::Instant::now();
    let code = tokio::task::spawn_blocking(move || child.end_with("TERM")).await.unwrap();
    assert!(code == Some(0) && began.elapsed().as_secs() < 6, "{code:?} after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_full_disk_loses_log_lines_and_no_request() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (mut child, actor, _folder) = service_that_logs_to(full.into()).await;
    for _ in 0..200 {
        assert_eq!(within(3, actor.get("/.well-known/jwks.json")).await.status, 200);
    }
    eventually(true, async || dropped_lines(&actor).await >= 100).await;
    assert_eq!(child.end_with("TERM"), Some(0));
}
