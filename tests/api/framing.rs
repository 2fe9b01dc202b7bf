//! HTTP/1.1 on the wire: where a request ends, when a connection closes, and input that is not HTTP

use crate::support::{PASSWORD, TestApp, all_replies, email};
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

/// Reads until the service closes the connection; a reset counts as a close.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends these bytes, and returns all replies and whether the service closed the connection in time.
async fn until_closed(app: &TestApp, bytes: &str) -> (String, bool) {
    let mut stream = connect(app).await;
    stream.write_all(bytes.as_bytes()).await.unwrap();
    match timeout(Duration::from_secs(4), read_all(&mut stream)).await {
        Ok(reply) => (reply, true),
        Err(_) => ("still open".to_owned(), false),
    }
}

/// If a proxy and the service disagree about the length of a request, the proxy may send one client's reply to another.
#[tokio::test]
async fn ambiguous_framing_is_refused_and_closes_the_connection() {
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
        ("chunked, then identity", framed("transfer-encoding: chunked, identity\r\n", &chunked)),
        ("nearly chunked", framed("transfer-encoding: xchunked\r\n", &chunked)),
        ("a space before the colon", framed("transfer-encoding : chunked\r\n", &chunked)),
        ("a folded header", framed("transfer-encoding:\r\n chunked\r\n", &chunked)),
        ("a chunk without a valid length", framed("transfer-encoding: chunked\r\n", "zz\r\nhello\r\n0\r\n\r\n")),
        (
            "a body unread because of a 401",
            "POST /auth/password HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n"
                .to_owned()
                + "{}  ",
        ),
        ("a body unread because of a 413", framed("content-length: 99999\r\n", "")),
    ];
    let fault = async |(_, request): &(&str, String)| {
        let (reply, is_closed) = until_closed(&app, &format!("{request}{next}")).await;
        let is_refused = reply.starts_with("HTTP/1.1 4") && reply.matches("HTTP/1.1 ").count() == 1 && is_closed;
        (!is_refused).then(|| format!("{reply}, closed: {is_closed}"))
    };
    all_replies("conflicting framing", rows, |(name, _)| (*name).to_owned(), fault).await;
    let users = app.database.count("users").await;
    assert_eq!(users, "0", "the following bytes were never read as a request");
}

/// RFC 9112 §9.6: the service ignores input after a request with `connection: close`.
#[tokio::test]
async fn requests_after_connection_close_are_not_answered() {
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
    let users = app.database.count("users").await;
    assert_eq!(users, "0", "the following bytes were never read as a request");
    // Even a long last reply is complete.
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

/// RFC 9110 §7.8: a server may ignore an upgrade.
#[tokio::test]
async fn an_upgrade_is_ignored_and_the_body_is_read_to_its_end() {
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
            // The bytes after the body are not part of it.
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

/// actix-http encodes a response for the request that it parsed last, so it must not parse the next one too early.
#[tokio::test]
async fn a_pipelined_request_does_not_change_the_response_before_it() {
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
            // A response to HEAD has no body.
            let is_head = behind.is_empty() || behind.starts_with("HTTP/1.1 ");
            found += usize::from(!is_head);
            rest = behind[if is_head { 0 } else { length }..].to_owned();
        }
        assert_eq!((found, rest.as_str()), (bodies, ""), "{requests}");
    }
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_not_read_as_a_request() {
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

/// The framework answers these requests before they reach the service.
#[tokio::test]
async fn malformed_requests_get_a_status_line_and_close_the_connection() {
    let app = TestApp::with(&[("SERVER__REQUEST_TIMEOUT", "1s")]).await;
    let long = format!("GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(200_000));
    let rows = [
        ("an incomplete head", "GET /livez HTTP/1.1\r\nhost:", 408),
        ("plain text", "hello there\r\n\r\n", 400),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n", 400),
        ("another version", "GET / HTTP/9.9\r\n\r\n", 400),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ("a space in a header's name", "GET /livez HTTP/1.1\r\nho st: a\r\n\r\n", 400),
        ("a length that is not a number", "POST /auth/signin HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", 400),
        ("a negative length", "POST /auth/signin HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
        ("an endless head", &long, 431),
    ];
    let fault = async |(_, request, status): &(&str, &str, u16)| {
        let mut stream = connect(&app).await;
        // The service may close the connection before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let reply = read_all(&mut stream).await;
        let is_right = reply.starts_with(&format!("HTTP/1.1 {status} ")) && reply.contains("connection: close");
        (!is_right).then_some(reply)
    };
    all_replies("malformed requests", rows, |row| row.0.to_owned(), fault).await;
}

#[tokio::test]
async fn a_slow_body_is_408() {
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

/// The framework limits the time only for the first request head of a connection.
#[tokio::test]
async fn a_connection_whose_client_stops_sending_is_closed() {
    let app = TestApp::with(&[("SERVER__REQUEST_TIMEOUT", "1s"), ("SERVER__KEEP_ALIVE", "2s")]).await;
    let refused = "POST /nowhere HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
    let rows = [
        ("no second request", "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("half a second head", "GET /livez HTTP/1.1\r\nhost: a\r\n\r\nGET /li"),
        ("a body that no route reads", refused),
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
async fn an_endless_body_closes_the_connection() {
    let app = TestApp::start().await;
    let mut stream = connect(&app).await;
    let head =
        "POST /auth/signin HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(65_536));
    let mut sent = 0;
    while stream.write_all(chunk.as_bytes()).await.is_ok() {
        sent += chunk.len();
        assert!(sent < 50_000_000, "{sent} bytes were accepted");
    }
}
