//! Log lines: what they hold, and a log that takes none

use crate::support::{
    Actor,
    actor::http_client,
    postgres::free_port,
    process::{Killed, Service, send_signal, signet},
    within,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{fs, process::Stdio};

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

#[tokio::test]
async fn a_log_line_holds_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let environment = [
        ("SIGNET__TELEMETRY__LOG", "debug"),
        ("SIGNET__TELEMETRY__FORMAT", "json"),
        ("SIGNET__SERVER__BIND", "127.0.0.1:0"),
    ];
    let child = signet(folder.path(), &environment).stdout(fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut child = Killed(child);
    let address = loop {
        let text = fs::read_to_string(&log).unwrap();
        if let Some(rest) = text.split("listening on http://").nth(1).filter(|rest| rest.contains('\n')) {
            break rest.lines().next().unwrap().parse().unwrap();
        }
        assert_eq!(child.0.try_wait().unwrap(), None, "it ended: {text}");
        std::thread::yield_now();
    };
    let anon = Actor::new(http_client(), address, None);
    let credentials = json!({"email": "canary-address@example.com", "password": "canary password"});
    anon.post("/auth/create", &credentials).await;
    let tokens = anon.post("/auth/signin", &credentials).await.json;
    anon.post("/auth/signin", &json!({"email": "canary-address@example.com", "password": "canary wrong"})).await;
    anon.post("/auth/refresh-access", &json!({"refresh_token": tokens["refresh_token"]})).await;
    anon.get("/auth/users?q=canary-address&access_token=canary-token").await;
    let access = tokens["access_token"].as_str().unwrap();
    Actor::new(http_client(), address, Some(access.to_owned())).get("/auth/users?q=canary-address").await;
    // Lines are written beside the requests; what a killed service has not written yet is lost.
    send_signal(&child.0, "TERM");
    child.0.wait().unwrap();
    let text = fs::read_to_string(&log).unwrap();
    let lines = text.lines().filter(|line| line.contains("\"answered\"")).count();
    assert_eq!(lines, 6, "one line for each request");
    let signature = access.rsplit('.').next().unwrap();
    for line in text.lines() {
        for secret in ["canary", signature, "$argon2"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
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
