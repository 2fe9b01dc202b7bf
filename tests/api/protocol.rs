//! What the framework refuses, and how HTTP is spoken.

use crate::support::{PASSWORD, TestApp, all, email};
use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn an_unknown_route_is_404() {
    let app = TestApp::start().await;
    let paths = [
        "/auth",
        "/auth/",
        "/auth/create/",
        "/Auth/create",
        "/auth//create",
        "/auth/users/",
        "/auth/users/me/",
        "/auth/%75sers/me/x",
        "/nowhere",
        "/.env",
        "/%00",
        "/auth/create%00",
        "/auth/create;a=b",
        "/docs/swagger/nothing.js",
        "/docs/swagger/../../Cargo.toml",
        "/docs/swagger/%2e%2e/%2e%2e/Cargo.toml",
        "/server-status",
        "/jwks.json",
    ];
    let mut replies = Vec::new();
    for path in paths {
        replies.push((path, app.anon().get(path).await));
    }
    all(
        "unknown routes",
        &replies,
        |(path, _)| (*path).to_owned(),
        |(_, reply)| {
            ((reply.status, reply.code()) != (404, "not-found")).then(|| format!("{} {}", reply.status, reply.text))
        },
    );
}

#[tokio::test]
async fn a_wrong_method_is_405_and_says_which_are_right() {
    let app = TestApp::start().await;
    let routes = [
        ("/auth/create", "POST"),
        ("/auth/signin", "POST"),
        ("/auth/refresh-access", "POST"),
        ("/auth/signout", "POST"),
        ("/auth/signout-all", "POST"),
        ("/auth/sessions", "GET, HEAD"),
        ("/auth/sessions/1", "DELETE"),
        ("/auth/password", "POST"),
        ("/auth/verify", "GET, HEAD"),
        ("/auth/users", "GET, HEAD"),
        ("/auth/users/me", "GET, HEAD, PATCH"),
        ("/livez", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/docs/swagger", "GET, HEAD"),
        ("/docs/swagger/", "GET, HEAD"),
        ("/docs/errors", "GET, HEAD"),
    ];
    let mut replies = Vec::new();
    for (path, allowed) in routes {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            if !allowed.split(", ").any(|known| known == method) {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                replies.push((method.clone(), path, allowed, app.anon().send(method, path, |request| request).await));
            }
        }
    }
    all(
        "wrong methods",
        &replies,
        |(method, path, ..)| format!("{method} {path}"),
        |(_, _, allowed, reply)| {
            ((reply.status, reply.code(), reply.header("allow")) != (405, "method-not-allowed", allowed))
                .then(|| format!("{reply:?}"))
        },
    );
}

#[tokio::test]
async fn a_body_is_json_in_utf8_and_nothing_else() {
    let app = TestApp::start().await;
    let body = || json!({"email": email(), "password": PASSWORD}).to_string();
    let rows = [
        (Some("application/json"), None, 201),
        (Some("Application/JSON"), None, 201),
        (Some("application/json; charset=utf-8"), None, 201),
        (Some("application/json;charset=\"UTF-8\""), None, 201),
        (Some("application/json; v=1"), None, 201),
        (Some("application/json"), Some("identity"), 201),
        (None, None, 415),
        (Some(""), None, 415),
        (Some("text/plain"), None, 415),
        (Some("application/x-www-form-urlencoded"), None, 415),
        (Some("multipart/form-data; boundary=a"), None, 415),
        (Some("application/json; charset=utf-16"), None, 415),
        (Some("application/json; charset=latin1"), None, 415),
        (Some("application/xml"), None, 415),
        (Some("application/jsonp"), None, 415),
        (Some("json"), None, 415),
        (Some("application/json, text/plain"), None, 415),
        (Some("application/json"), Some("gzip"), 415),
        (Some("application/json"), Some("br, gzip"), 415),
    ];
    let mut replies = Vec::new();
    for (content_type, encoding, status) in rows {
        let send = |mut request: reqwest::RequestBuilder| {
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            if let Some(encoding) = encoding {
                request = request.header("content-encoding", encoding);
            }
            request.body(body())
        };
        replies.push((content_type, encoding, status, app.anon().send(Method::POST, "/auth/create", send).await));
    }
    all(
        "content types",
        &replies,
        |(one, other, ..)| format!("{one:?} {other:?}"),
        |(.., status, reply)| (reply.status != *status).then(|| format!("{} {}", reply.status, reply.text)),
    );
}

#[tokio::test]
async fn a_body_over_16_kib_is_413_announced_or_not() {
    let app = TestApp::start().await;
    let fits = format!("{{\"refresh_token\":\"{}\"}}", "a".repeat(16 * 1024 - 20));
    assert_eq!(fits.len(), 16 * 1024);
    assert_eq!(app.anon().post_raw("/auth/signout", fits.clone()).await.status, 401, "16 KiB are read");
    for size in [fits.len() + 1, 1024 * 1024, 20 * 1024 * 1024] {
        let reply = app.anon().post_raw("/auth/signout", "a".repeat(size)).await;
        assert_eq!((reply.status, reply.code()), (413, "payload-too-large"), "{size} bytes");
    }
    let reply = app.anon().post_raw("/auth/create", "[".repeat(20_000)).await;
    assert_eq!((reply.status, reply.code()), (413, "payload-too-large"), "20,000 brackets");
    // In chunks, whose sum nobody has announced.
    let mut stream = connect(&app).await;
    stream.write_all(b"POST /auth/signout HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    for _ in 0..20 {
        stream.write_all(format!("400\r\n{}\r\n", "a".repeat(1024)).as_bytes()).await.unwrap();
    }
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 413 "));
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

#[tokio::test]
async fn a_sane_request_id_is_kept_and_any_other_replaced() {
    let app = TestApp::start().await;
    let ask = async |id: &str| {
        let reply = app.anon().send(Method::GET, "/livez", |request| request.header("x-request-id", id)).await;
        reply.header("x-request-id").to_owned()
    };
    for id in [
        "a",
        "0af7651916cd43dd8448eb211c80319c",
        "550e8400-e29b-41d4-a716-446655440000",
        "a.b_c:d/e+f=",
        &"a".repeat(128),
    ] {
        assert_eq!(ask(id).await, id);
    }
    for id in ["", " ", "a b", "a\"b", "{\"a\":1}", "a,b", &"a".repeat(129)] {
        let given = ask(id).await;
        assert!(given != id && given.len() == 32, "{id:?} became {given:?}");
    }
    let reply = app.anon().send(Method::GET, "/nowhere", |request| request.header("x-request-id", "mine")).await;
    assert_eq!(reply.json["request_id"], "mine");
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    for path in ["/livez", "/readyz", "/openapi.json", "/docs/swagger/", "/auth/users", "/auth/users/me"] {
        let reply = ann.actor.send(Method::HEAD, path, |request| request).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, ""), "{path}");
    }
}

#[tokio::test]
async fn the_base_path_goes_before_every_route() {
    let app = TestApp::with(&[("SERVER__BASE_PATH", "/id")]).await;
    let anon = app.anon();
    let body = json!({"email": "ann@example.com", "password": PASSWORD});
    let created = anon.post("/id/auth/create", &body).await;
    assert_eq!(
        (created.status, created.header("location"), created.header("cache-control")),
        (201, "/id/auth/users/1", "no-store")
    );
    let tokens = anon.post("/id/auth/signin", &body).await;
    let bearer = app.bearer(tokens.json["access_token"].as_str().unwrap());
    anon.post("/id/auth/create", &json!({"email": "bob@example.com", "password": PASSWORD})).await;
    let users = bearer.get("/id/auth/users?limit=1").await;
    assert_eq!(users.header("link"), "</id/auth/users?limit=1&after=1>; rel=\"next\"");
    for path in ["/id/livez", "/id/readyz", "/id/openapi.json", "/id/docs/swagger/", "/id/docs/errors"] {
        assert_eq!(anon.get(path).await.status, 200, "{path}");
    }
    for path in ["/id", "/id/", "/id/docs/swagger"] {
        assert_eq!(anon.get(path).await.header("location"), "/id/docs/swagger/", "{path}");
    }
    let lost = anon.get("/livez").await;
    assert_eq!((lost.status, &lost.json["type"]), (404, &json!("/id/docs/errors#not-found")));
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

#[tokio::test]
async fn a_path_in_another_spelling_is_the_same_route() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let body = json!({"email": ann.email, "password": PASSWORD});
    let reply = app.anon().post("/%61uth/signin", &body).await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"));
}

pub async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.address).await.unwrap()
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let length = stream.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// Everything until the service closes; a reset counts as a close.
pub async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}
