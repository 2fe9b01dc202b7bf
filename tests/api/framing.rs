//! HTTP/1.1 on the wire: where a request ends, when a connection closes, and input that is not HTTP

use crate::support::{PASSWORD, TestApp, all, email};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.address).await.unwrap()
}

pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let length = stream.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// Everything until the service closes; a reset counts as a close.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Everything that is answered to these bytes, and whether the connection was closed in time.
async fn until_closed(app: &TestApp, bytes: &str) -> (String, bool) {
    let mut stream = connect(app).await;
    stream.write_all(bytes.as_bytes()).await.unwrap();
    match timeout(Duration::from_secs(4), read_all(&mut stream)).await {
        Ok(reply) => (reply, true),
        Err(_) => ("still open".to_owned(), false),
    }
}

/// A proxy that believes another length than we do would hand the rest to somebody else.
#[tokio::test]
async fn what_could_be_two_requests_closes_the_connection() {
    let app = TestApp::start().await;
    let (create, json) = ("POST /auth/create HTTP/1.1\r\nhost: a\r\n", "content-type: application/json\r\n");
    let body = json!({"email": email(), "password": "correct horse battery"}).to_string();
    let next = format!("{create}{json}content-length: {}\r\n\r\n{body}", body.len());
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let framed = |framing: &str, body: &str| format!("{create}{json}{framing}\r\n{body}");
    let rows = [
        ("length and chunks", framed("content-length: 5\r\ntransfer-encoding: chunked\r\n", &chunked)),
        ("chunks and length", framed("transfer-encoding: chunked\r\ncontent-length: 5\r\n", &chunked)),
        ("two lengths", framed("content-length: 5\r\ncontent-length: 6\r\n", "hello")),
        ("a list of lengths", framed("content-length: 5, 5\r\n", "hello")),
        ("a length with a sign", framed("content-length: +5\r\n", "hello")),
        ("chunked twice", framed("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", &chunked)),
        ("a body that no route reads", "POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nabcd".to_owned()),
        ("chunked and not", framed("transfer-encoding: chunked, identity\r\n", &chunked)),
        ("nearly chunked", framed("transfer-encoding: xchunked\r\n", &chunked)),
        ("a space before the colon", framed("transfer-encoding : chunked\r\n", &chunked)),
        ("a folded header", framed("transfer-encoding:\r\n chunked\r\n", &chunked)),
        ("a chunk of no length", framed("transfer-encoding: chunked\r\n", "zz\r\nhello\r\n0\r\n\r\n")),
        (
            "a post behind a 401",
            "POST /auth/password HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n"
                .to_owned()
                + "{}  ",
        ),
        ("a post behind a 413", framed("content-length: 99999\r\n", "")),
    ];
    let mut replies = Vec::new();
    for (name, request) in rows {
        replies.push((name, until_closed(&app, &format!("{request}{next}")).await));
    }
    all(
        "conflicting framing",
        &replies,
        |(name, _)| (*name).to_owned(),
        |(_, (reply, is_closed))| {
            let is_refused = reply.starts_with("HTTP/1.1 4") && reply.matches("HTTP/1.1 ").count() == 1 && *is_closed;
            (!is_refused).then(|| format!("{reply}, closed: {is_closed}"))
        },
    );
    let users = app.database.value("SELECT CAST(COUNT(*) AS TEXT) FROM users").await;
    assert_eq!(users, "0", "what came behind was never read as a request");
}

/// RFC 9112 §9.6: what comes behind the request that wanted a close is not looked at.
#[tokio::test]
async fn what_comes_behind_a_close_is_not_answered() {
    let app = TestApp::start().await;
    let body = json!({"email": email(), "password": PASSWORD}).to_string();
    let head = "POST /auth/create HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let next = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let rows = [
        "GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, close\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: a\r\nconnection: Close , keep-alive\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: a\r\nconnection: keep-alive\r\nconnection: close\r\n\r\n",
        "GET /livez HTTP/1.0\r\nhost: a\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n",
    ];
    for request in rows {
        let (reply, is_closed) = until_closed(&app, &format!("{request}{next}")).await;
        assert!(is_closed && reply.contains(" 200 OK\r\n") && reply.ends_with("\r\n\r\nok"), "{request}: {reply}");
        let says_so = reply.contains("\r\nconnection: close\r\n");
        assert!(says_so || reply.starts_with("HTTP/1.0 "), "{request}: {reply}");
    }
    let users = app.database.value("SELECT CAST(COUNT(*) AS TEXT) FROM users").await;
    assert_eq!(users, "0", "what came behind was never read as a request");
    // The last answer is a whole one, however long it is.
    let page = "/docs/swagger/swagger-ui-bundle.js";
    let length: usize = app.anon().get(page).await.header("content-length").parse().unwrap();
    let mut stream = connect(&app).await;
    let request = format!("GET {page} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(length > 100_000 && bytes.len() - head == length, "{} of {length} bytes", bytes.len() - head);
}

/// RFC 9110 §7.8: an upgrade that is not wanted is ignored, and the request is one like any other.
#[tokio::test]
async fn a_request_that_would_rather_upgrade_is_read_to_the_end_of_its_body() {
    let app = TestApp::start().await;
    let request = |upgrade: &str, framing: &str, body: &str| {
        format!(
            "POST /auth/create HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\n\
             content-type: application/json\r\n{framing}\r\n{body}"
        )
    };
    let body = || json!({"email": email(), "password": PASSWORD}).to_string();
    for upgrade in ["websocket", "h2c", "TLS/1.0"] {
        let (whole, cut, chunks) = (body(), body(), body());
        let rows = [
            ("201 Created", request(upgrade, &format!("content-length: {}\r\n", whole.len()), &whole)),
            // What follows the body is no part of it.
            (
                "201 Created",
                request(upgrade, &format!("content-length: {}\r\n", cut.len()), &format!("{cut}GET /livez")),
            ),
            ("201 Created", {
                let chunked = format!("{:x}\r\n{chunks}\r\n0\r\n\r\n", chunks.len());
                request(upgrade, "transfer-encoding: chunked\r\n", &chunked)
            }),
            ("400 Bad Request", request(upgrade, "", &body())),
            ("413 Payload Too Large", request(upgrade, "content-length: 20000\r\n", "")),
        ];
        for (status, request) in rows {
            let (reply, is_closed) = until_closed(&app, &request).await;
            let is_so = reply.starts_with(&format!("HTTP/1.1 {status}\r\n")) && reply.matches("HTTP/1.1 ").count() == 1;
            assert!(is_so && is_closed, "{request}: {reply}, closed: {is_closed}");
        }
    }
}

/// actix-http encodes a response for the request that it parsed last: it must not parse the next one before.
#[tokio::test]
async fn a_request_that_is_pipelined_changes_no_other_response() {
    let app = TestApp::start().await;
    let body = json!({"email": email(), "password": PASSWORD}).to_string();
    let sign_in = format!(
        "POST /auth/signin HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let ask = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let last = "GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    for (requests, bodies) in [
        (ask("GET", "/readyz") + &ask("HEAD", "/livez") + last, 2),
        (ask("HEAD", "/readyz") + &ask("GET", "/livez") + last, 2),
        (sign_in.clone() + &ask("HEAD", "/livez") + last, 2),
        (ask("HEAD", "/livez") + &sign_in + last, 2),
        (ask("HEAD", "/livez") + &ask("HEAD", "/readyz") + last, 1),
    ] {
        let (mut rest, _) = until_closed(&app, &requests).await;
        let mut found = 0;
        while let Some((head, behind)) = rest.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
            // A response to HEAD is followed by the next one, or by nothing.
            let is_head = behind.is_empty() || behind.starts_with("HTTP/1.1 ");
            found += usize::from(!is_head);
            rest = behind[if is_head { 0 } else { length }..].to_owned();
        }
        assert_eq!((found, rest.as_str()), (bodies, ""), "{requests}");
    }
}

/// What is read as a body must not be read as a request, after a refusal either.
#[tokio::test]
async fn a_refused_request_takes_its_body_with_it() {
    let app = TestApp::start().await;
    let smuggled = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    let heads = [
        format!(
            "PATCH /auth/users/me HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            smuggled.len()
        ),
        format!(
            "POST /auth/create HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
            smuggled.len()
        ),
        format!("POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", smuggled.len()),
        "POST /auth/create HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 99999\r\n\r\n"
            .to_owned(),
        format!(
            "POST /auth/create HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            smuggled.len()
        ),
        "POST /auth/create HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n".to_owned(),
    ];
    for head in &heads {
        let mut stream = connect(&app).await;
        stream.write_all(format!("{head}{smuggled}").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let reply = read_all(&mut stream).await;
        assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{head}\n{reply}");
        assert!(reply.starts_with("HTTP/1.1 4"), "{head}\n{reply}");
    }
    println!("smuggled requests: {} cases", heads.len());
}

/// The framework answers these before the service sees a request: with a status line, and as the last response.
#[tokio::test]
async fn input_that_is_no_request_gets_a_status_line_and_the_connection_is_closed() {
    let app = TestApp::with(&[("SERVER__REQUEST_TIMEOUT", "1s")]).await;
    let long = format!("GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(200_000));
    let rows = [
        ("a head that drips", "GET /livez HTTP/1.1\r\nhost:", 408),
        ("words", "hello there\r\n\r\n", 400),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n", 400),
        ("another version", "GET / HTTP/9.9\r\n\r\n", 400),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ("a space in a header's name", "GET /livez HTTP/1.1\r\nho st: a\r\n\r\n", 400),
        ("a length that is none", "POST /auth/signin HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", 400),
        ("a negative length", "POST /auth/signin HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
        ("an endless head", &long, 431),
    ];
    let mut replies = Vec::new();
    for (name, request, status) in rows {
        let mut stream = connect(&app).await;
        // The service may close before it has read all.
        let _ = stream.write_all(request.as_bytes()).await;
        replies.push((name, status, read_all(&mut stream).await));
    }
    all(
        "no requests",
        &replies,
        |row| row.0.to_owned(),
        |(_, status, reply)| {
            let is_right = reply.starts_with(&format!("HTTP/1.1 {status} ")) && reply.contains("connection: close");
            (!is_right).then(|| reply.clone())
        },
    );
}

#[tokio::test]
async fn a_body_that_drips_is_408() {
    let app = TestApp::with(&[("SERVER__REQUEST_TIMEOUT", "1s")]).await;
    let mut stream = connect(&app).await;
    stream
        .write_all(
            b"POST /auth/signin HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
        )
        .await
        .unwrap();
    let reply = read_all(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 408 ") && reply.contains("\"code\":\"request-timeout\""), "{reply}");
}

/// The framework has a limit for the first head of a connection only.
#[tokio::test]
async fn a_connection_that_stops_talking_is_closed() {
    let app = TestApp::with(&[("SERVER__REQUEST_TIMEOUT", "1s"), ("SERVER__KEEP_ALIVE", "2s")]).await;
    let refused = "POST /nowhere HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
    let rows = [
        ("nothing more", "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("half a second head", "GET /livez HTTP/1.1\r\nhost: a\r\n\r\nGET /li"),
        ("a body that nobody reads", refused),
    ];
    let closed = rows.map(|(name, request)| {
        let connect = connect(&app);
        async move {
            let mut stream = connect.await;
            stream.write_all(request.as_bytes()).await.unwrap();
            let reply = tokio::time::timeout(std::time::Duration::from_secs(15), read_all(&mut stream)).await;
            assert!(reply.unwrap_or_else(|_| panic!("{name}: still open")).starts_with("HTTP/1.1 "), "{name}");
        }
    });
    futures_util::future::join_all(closed).await;
}

#[tokio::test]
async fn a_body_without_end_is_cut() {
    let app = TestApp::start().await;
    let mut stream = connect(&app).await;
    let head =
        "POST /auth/signin HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(65_536));
    let mut sent = 0;
    while stream.write_all(chunk.as_bytes()).await.is_ok() {
        sent += chunk.len();
        assert!(sent < 50_000_000, "{sent} bytes were taken");
    }
}
