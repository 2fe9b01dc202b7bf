//! What stands before the service and beside it: browsers of other origins, proxies, and what passes through them.

use super::protocol::{connect, read_all};
use crate::support::{PASSWORD, TestApp, actor::Reply, all, email};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const ORIGIN: &str = "https://app.example.com";

async fn preflight(app: &TestApp, origin: &str, method: &str, headers: &str) -> Reply {
    let ask = |request: RequestBuilder| {
        let request = request.header("origin", origin).header("access-control-request-method", method);
        if headers.is_empty() { request } else { request.header("access-control-request-headers", headers) }
    };
    app.anon().send(Method::OPTIONS, "/auth/users", ask).await
}

fn allowed(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.header("access-control-allow-origin"))
}

#[tokio::test]
async fn pages_of_other_origins_are_let_in_by_name_and_read_errors_too() {
    let app =
        TestApp::with(&[("SERVER__CORS_ALLOWED_ORIGINS", "https://app.example.com, http://localhost:3000")]).await;
    for origin in [ORIGIN, "http://localhost:3000"] {
        let reply = preflight(&app, origin, "GET", "authorization,content-type").await;
        assert_eq!(allowed(&reply), (200, origin));
        assert!(reply.header("vary").contains("Origin") && reply.header("x-request-id").len() == 32, "{reply:?}");
        assert_eq!(reply.header("access-control-allow-credentials"), "", "a cookie is never needed");
    }
    for (origin, method, headers) in [
        ("https://evil.example", "GET", ""),
        ("https://app.example.com.evil.example", "GET", ""),
        ("http://app.example.com", "GET", ""),
        ("https://app.example.com:8443", "GET", ""),
        ("null", "GET", ""),
        (ORIGIN, "TRACE", ""),
        (ORIGIN, "GET", "x-forwarded-for"),
    ] {
        let reply = preflight(&app, origin, method, headers).await;
        assert_eq!((allowed(&reply), reply.code()), ((400, ""), "invalid-request"), "{origin} {method} {headers}");
        assert!(reply.text.contains("CORS (server.cors_allowed_origins): "), "{reply:?}");
        assert!(reply.header("vary").starts_with("Origin, "), "a cache must not give it to others: {reply:?}");
    }
    let ann = app.user().await;
    let from = |origin: &'static str| move |request: RequestBuilder| request.header("origin", origin);
    let rows = [
        ("a list", ann.actor.send(Method::GET, "/auth/users?limit=1", from(ORIGIN)).await, (200, ORIGIN)),
        ("an error", app.anon().send(Method::GET, "/auth/users", from(ORIGIN)).await, (401, ORIGIN)),
        ("no route", app.anon().send(Method::GET, "/nowhere", from(ORIGIN)).await, (404, ORIGIN)),
        ("a wrong method", app.anon().send(Method::DELETE, "/auth/users", from(ORIGIN)).await, (405, ORIGIN)),
        ("another", ann.actor.send(Method::GET, "/auth/users", from("https://evil.example")).await, (200, "")),
    ];
    for (name, reply, expected) in &rows {
        assert_eq!(allowed(reply), *expected, "{name}: {reply:?}");
    }
    let exposed = rows[0].1.header("access-control-expose-headers");
    assert!(exposed.contains("link") && exposed.contains("x-request-id"), "{exposed}");
    assert_eq!(rows[1].1.code(), "token-missing", "the problem is the same");
}

#[tokio::test]
async fn without_origins_no_page_is_let_in_and_with_a_star_every_page_is() {
    let none = TestApp::start().await;
    assert_eq!(allowed(&preflight(&none, ORIGIN, "GET", "").await), (405, ""));
    let any = TestApp::with(&[("SERVER__CORS_ALLOWED_ORIGINS", "*"), ("JWT__AUTHORIZATION_HEADER", "x-token")]).await;
    assert_eq!(allowed(&preflight(&any, "https://whoever.example", "POST", "x-token").await), (200, "*"));
}

/// Where the session of a sign-in says that it came from.
async fn seen(app: &TestApp, headers: &[(&str, &str)]) -> String {
    let ann = app.user().await;
    let body = json!({"email": ann.email, "password": PASSWORD}).to_string();
    let send = |request: RequestBuilder| {
        let request = request.header("content-type", "application/json").body(body);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let reply = app.anon().send(Method::POST, "/auth/signin", send).await;
    let bearer = app.bearer(reply.json["access_token"].as_str().unwrap());
    let sessions = bearer.get("/auth/sessions").await.json;
    let current = sessions.as_array().unwrap().iter().find(|session| session["current"] == true).unwrap();
    current["ip"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_address_is_what_a_trusted_proxy_says_and_nobody_else() {
    let forged = [("x-forwarded-for", "6.6.6.6, 203.0.113.7"), ("x-real-ip", "6.6.6.6"), ("forwarded", "for=6.6.6.6")];
    let nobody = TestApp::start().await;
    assert_eq!(seen(&nobody, &forged).await, "127.0.0.1", "no proxy is trusted unless it is named");
    let elsewhere = TestApp::with(&[("SERVER__TRUSTED_PROXIES", "10.0.0.0/8")]).await;
    assert_eq!(seen(&elsewhere, &forged).await, "127.0.0.1");
    let here = TestApp::with(&[("SERVER__TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8")]).await;
    assert_eq!(seen(&here, &forged).await, "203.0.113.7", "what stands left of it was written by the client");
    assert_eq!(seen(&here, &[("x-forwarded-for", "6.6.6.6,203.0.113.7,10.1.1.1")]).await, "203.0.113.7");
    let other = [("SERVER__TRUSTED_PROXIES", "127.0.0.1"), ("SERVER__FORWARDED_HEADER", "X-Real-IP")];
    let other = TestApp::with(&other).await;
    assert_eq!(seen(&other, &[("x-forwarded-for", "6.6.6.6"), ("x-real-ip", "203.0.113.9")]).await, "203.0.113.9");
}

#[tokio::test]
async fn a_page_loads_nothing_from_elsewhere_and_stands_in_no_frame() {
    let app = TestApp::start().await;
    let mut replies = Vec::new();
    for path in ["/docs/swagger/", "/docs/swagger/swagger-ui-bundle.js", "/docs/errors"] {
        replies.push((path, app.anon().get(path).await));
    }
    all(
        "pages",
        &replies,
        |(path, _)| (*path).to_owned(),
        |(_, reply)| {
            let policy = reply.header("content-security-policy");
            let is_right = reply.status == 200
                && policy.contains("default-src 'none'")
                && policy.contains("script-src 'self';")
                && policy.contains("frame-ancestors 'none'")
                && reply.header("x-frame-options") == "DENY"
                && reply.header("referrer-policy") == "no-referrer";
            (!is_right).then(|| format!("{:?}", reply.headers))
        },
    );
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
