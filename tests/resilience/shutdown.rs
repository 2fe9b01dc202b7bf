//! SIGTERM: what is answered, and what is not lost

use super::drills::{Load, start};
use crate::support::{PASSWORD, TestApp, TestDatabase, email, eventually};
use futures_util::{
    future::{join, join_all},
    stream::{FuturesUnordered, StreamExt},
};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

/// The background work begins with a question to the database, which is not answered yet then.
#[tokio::test]
async fn a_stop_right_after_the_start_is_a_stop() {
    for _ in 0..5 {
        let mut app = TestApp::start().await;
        app.stop();
        eventually(true, async || app.has_stopped()).await;
    }
}

#[tokio::test]
async fn a_stop_finishes_the_requests_in_flight() {
    // One is hashed, one waits, the rest is refused; four workers, most of which have nothing to do and end at once.
    let mut app = TestApp::with(&[
        ("PASSWORDS__MEMORY_KIB", "65536"),
        ("PASSWORDS__ITERATIONS", "6"),
        ("PASSWORDS__QUEUE", "1"),
        ("SERVER__WORKERS", "4"),
    ])
    .await;
    let address = email();
    app.create(&address).await;
    let body = json!({"email": address, "password": PASSWORD});
    let mut sign_ins: FuturesUnordered<_> = (0..6)
        .map(|_| {
            let (anon, body) = (app.anon(), body.clone());
            async move { anon.post("/auth/signin", &body).await.status }
        })
        .collect();
    for _ in 0..4 {
        assert_eq!(sign_ins.next().await, Some(503), "refused at once");
    }
    // What has not been answered by now is in flight.
    app.stop();
    assert_eq!((sign_ins.next().await, sign_ins.next().await), (Some(200), Some(200)));
    app.stopped();
    assert!(tokio::net::TcpStream::connect(app.address).await.is_err(), "nobody listens any more");
}

/// A client that was not told would send its next request into the end.
#[tokio::test]
async fn what_is_answered_while_it_stops_says_that_it_is_the_last() {
    let mut app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let mut answers = Vec::new();
    let ask = async |stream: &mut TcpStream| {
        let mut bytes = [0; 4096];
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let read = stream.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    };
    answers.push(ask(&mut stream).await);
    app.stop();
    while answers.len() < 10_000 && answers.last().is_some_and(|answer| !answer.contains("connection: close\r\n")) {
        answers.push(ask(&mut stream).await);
    }
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")), "{:?}", answers.last());
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "and it was the last");
    app.stopped();
}

#[tokio::test]
async fn a_stop_under_load_answers_every_request_that_it_accepted() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let mut service = start(&folder, &database.url(), &[]);
    let load = Load::default();
    let stopping = async {
        sleep(Duration::from_millis(700)).await;
        service.kill("TERM");
        sleep(Duration::from_millis(1500)).await;
        load.over();
    };
    join(join_all((0..16).map(|_| load.creates(&service))), stopping).await;
    assert_eq!(service.child.0.wait().unwrap().code(), Some(0));
    let log = service.log();
    assert!(!log.contains(" ERROR "), "to stop is no fault: {log}");
    let again = start(&folder, &database.url(), &[]);
    let lost = load.lost(&again).await;
    load.report("SIGTERM under load", lost, Duration::ZERO);
    // The kernel resets the connections that it has queued when the port is closed: one of each client at most. The service
    // has accepted none of them: it has done nothing that it did not answer.
    let answers = load.answers.take();
    assert!(answers.get("broken off").is_none_or(|count| *count <= 16) && answers["not connected"] > 0, "{answers:?}");
    let users = database.value("SELECT CAST(COUNT(*) AS TEXT) FROM users").await;
    assert_eq!(users, load.acknowledged.get().to_string());
}
