//! A shutdown answers every accepted request and loses no acknowledged user.

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

/// At that time the first queries of the background jobs are still unanswered.
#[tokio::test]
async fn a_service_can_stop_right_after_its_start() {
    for _ in 0..5 {
        let mut app = TestApp::start().await;
        app.service.begin_stop();
        eventually(true, async || app.has_stopped()).await;
    }
}

#[tokio::test]
async fn a_shutdown_finishes_the_requests_in_flight() {
    // One sign-in is hashed, one waits and the rest are refused. Most of the four workers are idle and end at once.
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
    let anon = app.anon();
    let mut sign_ins: FuturesUnordered<_> =
        (0..6).map(async |_| anon.post("/auth/signin", &body).await.status).collect();
    for _ in 0..4 {
        assert_eq!(sign_ins.next().await, Some(503), "refused at once");
    }
    // The other two are in flight.
    app.service.begin_stop();
    assert_eq!((sign_ins.next().await, sign_ins.next().await), (Some(200), Some(200)));
    app.service.stop();
    assert!(tokio::net::TcpStream::connect(app.address).await.is_err(), "the port is closed");
}

/// Without `connection: close` a client would send its next request on a connection that is about to close.
#[tokio::test]
async fn replies_during_a_shutdown_close_the_connection() {
    let mut app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let mut replies = Vec::new();
    let ask = async |stream: &mut TcpStream| {
        let mut bytes = [0; 4096];
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let read = stream.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    };
    replies.push(ask(&mut stream).await);
    app.service.begin_stop();
    while replies.len() < 10_000 && replies.last().is_some_and(|reply| !reply.contains("connection: close\r\n")) {
        replies.push(ask(&mut stream).await);
    }
    assert!(replies.iter().all(|reply| reply.starts_with("HTTP/1.1 200 ")), "{:?}", replies.last());
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "the connection is closed after that reply");
    app.service.stop();
}

#[tokio::test]
async fn a_shutdown_under_load_answers_every_accepted_request() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let mut service = start(&folder, &database.url(), &[]);
    let load = Load::default();
    let stopping = async {
        sleep(Duration::from_millis(700)).await;
        service.send_signal("TERM");
        sleep(Duration::from_millis(1500)).await;
        load.end();
    };
    join(join_all((0..16).map(|_| load.creates(&service))), stopping).await;
    assert_eq!(service.child.0.wait().unwrap().code(), Some(0));
    let log = service.log();
    assert!(!log.contains(" ERROR "), "a shutdown logs no error: {log}");
    let again = start(&folder, &database.url(), &[]);
    let lost = load.lost(&again).await;
    load.report("SIGTERM under load", lost, Duration::ZERO);
    // When the port is closed the kernel resets the connections that it has queued, at most one of each client. The
    // service accepted none of them, so it created no user that it did not acknowledge.
    let answers = load.answers.take();
    assert!(answers.get("broken off").is_none_or(|count| *count <= 16) && answers["not connected"] > 0, "{answers:?}");
    let users = database.count("users").await;
    assert_eq!(users, load.acknowledged.get().to_string());
}
