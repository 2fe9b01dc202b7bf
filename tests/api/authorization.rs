//! The header that carries an access token.

use crate::support::{TestApp, all};
use reqwest::{Method, header::HeaderValue};

#[tokio::test]
async fn the_header_holds_one_token_of_a_known_scheme() {
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
    let mut replies = Vec::new();
    for (headers, status, code) in rows {
        let send = |mut request: reqwest::RequestBuilder| {
            for value in &headers {
                request = request.header("authorization", HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            request
        };
        let reply = app.anon().send(Method::GET, "/auth/users/me", send).await;
        replies.push((headers.join(" | "), status, code, reply));
    }
    all(
        "authorization headers",
        &replies,
        |row| row.0.chars().take(60).collect(),
        |(_, status, code, reply)| {
            ((reply.status, reply.code()) != (*status, *code)).then(|| format!("{} {}", reply.status, reply.code()))
        },
    );
    assert_eq!(replies[0].3.json["detail"], "Token not found in the request header");
}

#[tokio::test]
async fn a_token_anywhere_else_is_no_token() {
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
async fn a_bad_token_does_not_spoil_the_session() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    assert_eq!(app.bearer("x.y.z").get("/auth/users/me").await.status, 401);
    assert_eq!(ann.actor.get("/auth/users/me").await.status, 200);
}

#[tokio::test]
async fn every_protected_route_needs_a_token() {
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

/// A dead token is refused before the body is judged, whichever of the two is known first.
#[tokio::test]
async fn who_is_calling_comes_before_what_they_say() {
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
