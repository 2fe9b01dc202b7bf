//! The `Authorization` header

use crate::support::{TestApp, all_replies};
use reqwest::{Method, header::HeaderValue};

#[tokio::test]
async fn the_authorization_header_takes_one_token_of_a_known_scheme() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let token = &ann.access;
    let rows: Vec<(Vec<String>, u16, &str)> = vec![
        (vec![], 401, "token-missing"),
        (vec![format!("Bearer {token}")], 200, ""),
        (vec![format!("bearer {token}")], 200, ""),
        (vec![format!("BEARER {token}")], 200, ""),
        (vec![format!("Bearer   {token}")], 200, ""),
        (vec![String::new()], 401, "token-missing"),
        (vec![token.clone()], 401, "token-missing"),
        (vec!["Basic YW5uOmFubg==".to_owned()], 401, "token-missing"),
        (vec![format!("Basic {token}")], 401, "token-missing"),
        (vec![format!("Bearerx {token}")], 401, "token-missing"),
        (vec![format!("Bearer:{token}")], 401, "token-missing"),
        (vec![format!("Token {token}")], 401, "token-missing"),
        (vec!["Bearer".to_owned()], 401, "invalid-token"),
        (vec!["Bearer ".to_owned()], 401, "invalid-token"),
        (vec![format!("Bearer {token} more")], 401, "invalid-token"),
        (vec![format!("Bearer {token}, {token}")], 401, "invalid-token"),
        (vec![format!("Bearer {token},")], 401, "invalid-token"),
        (vec![format!("Bearer Bearer {token}")], 401, "invalid-token"),
        (vec![format!("Bearer \"{token}\"")], 401, "invalid-token"),
        (vec![format!("Bearer {token}"), format!("Bearer {token}")], 401, "invalid-token"),
        (vec![format!("Bearer {token}"), "Basic YTpi".to_owned()], 401, "invalid-token"),
        (vec!["Basic YTpi".to_owned(), format!("Bearer {token}")], 401, "invalid-token"),
        (vec![format!("Bearer {}", "a".repeat(10_240))], 401, "invalid-token"),
        (vec![format!("Bearer {}", ".".repeat(10_240))], 401, "invalid-token"),
        (vec![format!("Bearer {}", "a.".repeat(5_120))], 401, "invalid-token"),
        (vec![format!("Bearer {}é", token)], 401, "invalid-token"),
        (vec!["Bearer null".to_owned()], 401, "invalid-token"),
        (vec!["Bearer undefined".to_owned()], 401, "invalid-token"),
    ];
    let fault = async |(headers, status, code): &(Vec<String>, u16, &str)| {
        let send = |mut request: reqwest::RequestBuilder| {
            for value in headers {
                request = request.header("authorization", HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            request
        };
        app.anon().send(Method::GET, "/auth/users/me", send).await.differs_from(*status, code)
    };
    all_replies("authorization headers", rows, |row| row.0.join(" | "), fault).await;
    let missing = app.anon().get("/auth/users/me").await;
    assert_eq!(missing.json["detail"], "Token not found in the request header");
}

#[tokio::test]
async fn a_token_outside_the_authorization_header_is_ignored() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let token = &ann.access;
    let path = format!("/auth/users/me?access_token={token}&token={token}");
    assert_eq!(app.anon().get(&path).await.code(), "token-missing");
    let cookies = format!("access_token={token}; Authorization=Bearer {token}");
    let reply = app.anon().send(Method::GET, "/auth/users/me", |request| request.header("cookie", cookies)).await;
    assert_eq!(reply.code(), "token-missing");
    let reply = app
        .anon()
        .send(Method::GET, "/auth/users/me", |request| request.header("x-authorization", format!("Bearer {token}")))
        .await;
    assert_eq!(reply.code(), "token-missing");
}

#[tokio::test]
async fn an_invalid_token_leaves_the_session_alone() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    assert_eq!(app.bearer("x.y.z").get("/auth/users/me").await.status, 401);
    assert_eq!(ann.actor.get("/auth/users/me").await.status, 200);
}

#[tokio::test]
async fn every_protected_route_requires_an_access_token() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    for (method, path) in
        [(Method::GET, "/auth/users"), (Method::GET, "/auth/users/me"), (Method::PATCH, "/auth/users/me")]
    {
        let send = |request: reqwest::RequestBuilder| request.json(&serde_json::json!({}));
        assert_eq!(app.anon().send(method.clone(), path, send).await.code(), "token-missing", "{method} {path}");
        let reply = app.bearer(&ann.refresh).send(method.clone(), path, send).await;
        assert_eq!(reply.code(), "wrong-token-type", "{method} {path}");
        assert_eq!(reply.json["detail"], "Refresh tokens cannot be used for operations.");
        assert_eq!(ann.actor.send(method.clone(), path, send).await.status, 200, "{method} {path}");
    }
}

/// An invalid token gets 401 even if the service finds the fault of the body first.
#[tokio::test]
async fn an_invalid_token_is_refused_before_the_body_is_checked() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.sign_out(&ann.refresh).await;
    for (method, path) in [(Method::PATCH, "/auth/users/me"), (Method::POST, "/auth/password")] {
        for _ in 0..10 {
            let nonsense =
                |request: reqwest::RequestBuilder| request.header("content-type", "application/json").body("nonsense");
            assert_eq!(ann.actor.send(method.clone(), path, nonsense).await.code(), "invalid-token", "{path}");
        }
    }
}
