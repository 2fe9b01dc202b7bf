//! Rules for every route: paths, methods, content types, lengths, request ids

use super::framing::{connect, read_head};
use crate::support::{PASSWORD, TestApp, all_replies, email};
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;

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
    let fault = async |path: &&str| app.anon().get(path).await.differs_from(404, "not-found");
    all_replies("unknown routes", paths, |path| (*path).to_owned(), fault).await;
}

#[tokio::test]
async fn a_wrong_method_is_405_and_allow_lists_the_right_ones() {
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
        ("/auth/api-keys", "POST, GET, HEAD"),
        ("/auth/api-keys/1", "DELETE"),
        ("/auth/revocations", "GET, HEAD"),
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
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"];
    let rows = routes.iter().flat_map(|(path, allowed)| {
        let wrong = methods.iter().filter(|method| !allowed.split(", ").any(|known| known == **method));
        wrong.map(move |method| (Method::from_bytes(method.as_bytes()).unwrap(), *path, *allowed))
    });
    let fault = async |(method, path, allowed): &(Method, &str, &str)| {
        let reply = app.anon().send(method.clone(), path, |request| request).await;
        let is_right = (reply.status, reply.code(), reply.header("allow")) == (405, "method-not-allowed", *allowed);
        (!is_right).then(|| format!("{reply:?}"))
    };
    all_replies("wrong methods", rows, |(method, path, _)| format!("{method} {path}"), fault).await;
}

#[tokio::test]
async fn a_body_must_be_json_in_utf_8() {
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
    let fault = async |(content_type, encoding, status): &(Option<&str>, Option<&str>, u16)| {
        let send = |mut request: reqwest::RequestBuilder| {
            if let Some(content_type) = content_type {
                request = request.header("content-type", *content_type);
            }
            if let Some(encoding) = encoding {
                request = request.header("content-encoding", *encoding);
            }
            request.body(body())
        };
        let code = if *status == 201 { "" } else { "unsupported-media-type" };
        app.anon().send(Method::POST, "/auth/create", send).await.differs_from(*status, code)
    };
    all_replies("content types", rows, |(one, other, _)| format!("{one:?} {other:?}"), fault).await;
}

#[tokio::test]
async fn a_body_over_16_kib_is_413_with_or_without_a_content_length() {
    let app = TestApp::start().await;
    let fits = format!("{{\"refresh_token\":\"{}\"}}", "a".repeat(16 * 1024 - 20));
    assert_eq!(fits.len(), 16 * 1024);
    assert_eq!(app.anon().post_raw("/auth/signout", fits.clone()).await.status, 401, "a body of 16 KiB is read");
    for size in [fits.len() + 1, 1024 * 1024, 20 * 1024 * 1024] {
        let reply = app.anon().post_raw("/auth/signout", "a".repeat(size)).await;
        assert_eq!((reply.status, reply.code()), (413, "payload-too-large"), "{size} bytes");
    }
    let reply = app.anon().post_raw("/auth/create", "[".repeat(20_000)).await;
    assert_eq!((reply.status, reply.code()), (413, "payload-too-large"), "20,000 brackets");
    // In chunks, without a content length.
    let mut stream = connect(&app).await;
    stream.write_all(b"POST /auth/signout HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    for _ in 0..20 {
        stream.write_all(format!("400\r\n{}\r\n", "a".repeat(1024)).as_bytes()).await.unwrap();
    }
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_well_formed_request_id_is_kept_and_any_other_replaced() {
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
async fn the_base_path_prefixes_every_route() {
    let app = TestApp::with(&[("SERVER__BASE_PATH", "/id")]).await;
    let anon = app.anon();
    let body = json!({"email": "ann@example.com", "password": PASSWORD});
    let created = anon.post("/id/auth/create", &body).await;
    assert_eq!(
        (created.status, created.header("location"), created.header("cache-control")),
        (201, "/id/auth/users/1", "no-store")
    );
    let tokens = anon.post("/id/auth/signin", &body).await;
    let bearer = app.bearer(tokens.string("access_token"));
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

#[tokio::test]
async fn a_percent_encoded_path_is_the_same_route() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let body = json!({"email": ann.email, "password": PASSWORD});
    let reply = app.anon().post("/%61uth/signin", &body).await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"));
}
