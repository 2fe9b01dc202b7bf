//! Requests that web pages of other origins send

use crate::support::{TestApp, actor::Reply};
use reqwest::{Method, RequestBuilder};

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
async fn pages_of_an_allowed_origin_can_read_replies_and_errors() {
    let app =
        TestApp::with(&[("SERVER__CORS_ALLOWED_ORIGINS", "https://app.example.com, http://localhost:3000")]).await;
    for origin in [ORIGIN, "http://localhost:3000"] {
        let reply = preflight(&app, origin, "GET", "authorization,content-type").await;
        assert_eq!(allowed(&reply), (200, origin));
        assert!(reply.header("vary").contains("Origin") && reply.header("x-request-id").len() == 32, "{reply:?}");
        assert_eq!(reply.header("access-control-allow-credentials"), "", "the API uses no cookies");
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
        assert!(
            reply.header("vary").starts_with("Origin, "),
            "a cache must not reuse a reply for another origin: {reply:?}"
        );
    }
    let ann = app.user().await;
    let from = |origin: &'static str| move |request: RequestBuilder| request.header("origin", origin);
    let rows = [
        ("a list", ann.actor.send(Method::GET, "/auth/users?limit=1", from(ORIGIN)).await, (200, ORIGIN)),
        ("an error", app.anon().send(Method::GET, "/auth/users", from(ORIGIN)).await, (401, ORIGIN)),
        ("no route", app.anon().send(Method::GET, "/nowhere", from(ORIGIN)).await, (404, ORIGIN)),
        ("a wrong method", app.anon().send(Method::DELETE, "/auth/users", from(ORIGIN)).await, (405, ORIGIN)),
        ("another origin", ann.actor.send(Method::GET, "/auth/users", from("https://evil.example")).await, (200, "")),
    ];
    for (name, reply, expected) in &rows {
        assert_eq!(allowed(reply), *expected, "{name}: {reply:?}");
    }
    let exposed = rows[0].1.header("access-control-expose-headers");
    assert!(exposed.contains("link") && exposed.contains("x-request-id"), "{exposed}");
    assert_eq!(rows[1].1.code(), "token-missing", "the problem is the same as without an origin");
}

#[tokio::test]
async fn no_origin_is_allowed_by_default_and_a_star_allows_every_origin() {
    let none = TestApp::start().await;
    assert_eq!(allowed(&preflight(&none, ORIGIN, "GET", "").await), (405, ""));
    let any = TestApp::with(&[("SERVER__CORS_ALLOWED_ORIGINS", "*"), ("JWT__AUTHORIZATION_HEADER", "x-token")]).await;
    assert_eq!(allowed(&preflight(&any, "https://any.example", "POST", "x-token").await), (200, "*"));
}
