//! `GET /auth/verify`, which proxies call for the services behind them

use crate::support::{PASSWORD, TestApp, actor::http_client, all};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_valid_token_is_200_with_headers_that_name_its_user() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let reply = ann.actor.get("/auth/verify").await;
    let headers = ["x-auth-subject", "remote-user", "remote-groups"].map(|name| reply.header(name).to_owned());
    assert_eq!((reply.status, reply.text.as_str()), (200, ""));
    assert_eq!(headers, [ann.id.to_string(), ann.email.clone(), String::new()]);

    let superuser = format!("UPDATE users SET is_staff = TRUE, is_superuser = TRUE WHERE id = {}", ann.id);
    app.database.execute(&superuser).await;
    assert_eq!(
        ann.actor.get("/auth/verify").await.header("remote-groups"),
        "",
        "the roles are those of the last refresh"
    );
    let renewed = app.refresh(&ann.refresh).await;
    let renewed = app.bearer(renewed.string("access_token"));
    assert_eq!(renewed.get("/auth/verify").await.header("remote-groups"), "staff,superuser");
}

#[tokio::test]
async fn a_username_outside_plain_ascii_is_percent_encoded() {
    let app = TestApp::start().await;
    let rows = [
        ("zoë@example.com", "zo%C3%AB@example.com"),
        ("100%@example.com", "100%25@example.com"),
        ("a+b_c-d@example.com", "a+b_c-d@example.com"),
    ];
    for (email, encoded) in rows {
        let user = app.user_with_email(email).await;
        assert_eq!(user.actor.get("/auth/verify").await.header("remote-user"), encoded);
    }
}

#[tokio::test]
async fn a_request_without_a_valid_token_is_401() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    assert_eq!(app.anon().get("/auth/verify").await.code(), "token-missing");
    assert_eq!(app.bearer(&ann.refresh).get("/auth/verify").await.code(), "wrong-token-type");
    assert_eq!(app.bearer("nonsense").get("/auth/verify").await.code(), "invalid-token");
    app.advance(300);
    assert_eq!(ann.actor.get("/auth/verify").await.code(), "invalid-token", "expired");
}

/// Envoy sends the method of the request that it authorizes, and some proxies also send its body.
#[tokio::test]
async fn every_method_is_answered_and_a_body_is_ignored() {
    let app = TestApp::with(&[("SERVER__CORS_ALLOWED_ORIGINS", "https://app.example.com")]).await;
    let ann = app.user().await;
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"];
    let mut rows = Vec::new();
    for method in methods.map(|method| Method::from_bytes(method.as_bytes()).unwrap()) {
        for body in [None, Some("<xml/>".to_owned()), Some("a".repeat(20_000))] {
            for origin in [None, Some("https://app.example.com"), Some("https://evil.example.com")] {
                let change = |request: reqwest::RequestBuilder| {
                    let request = match origin {
                        Some(origin) => {
                            request.header("origin", origin).header("access-control-request-method", "DELETE")
                        }
                        None => request,
                    };
                    match body.clone() {
                        Some(body) => request.header("content-type", "text/xml").body(body),
                        None => request,
                    }
                };
                let good = ann.actor.send(method.clone(), "/auth/verify", change).await;
                let bad = app.bearer("x").send(method.clone(), "/auth/verify", change).await;
                let has_cors = [&good, &bad]
                    .iter()
                    .any(|reply| reply.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
                let seen = (good.status, good.header("x-auth-subject").to_owned(), bad.status, has_cors);
                rows.push((method.clone(), body.is_some(), origin, seen));
            }
        }
    }
    let right = (200, ann.id.to_string(), 401, false);
    all(
        "requests of proxies",
        &rows,
        |(method, has_body, origin, _)| format!("{method}, body {has_body}, origin {origin:?}"),
        |(.., seen)| (*seen != right).then(|| format!("{seen:?}")),
    );
}

#[tokio::test]
async fn another_spelling_of_the_path_is_not_answered_by_cors_either() {
    let app = TestApp::with(&[("SERVER__CORS_ALLOWED_ORIGINS", "https://app.example.com")]).await;
    let request =
        http_client().build().unwrap().request(Method::OPTIONS, format!("http://{}/auth/%76erify", app.address));
    let request = request.header("origin", "https://app.example.com").header("access-control-request-method", "GET");
    assert_eq!(request.send().await.unwrap().status(), 401);
}

/// A query would find that the session has ended and that the user is deleted.
#[tokio::test]
async fn verify_does_not_query_the_database() {
    let app = TestApp::with(&[("REVOCATION__POLL_INTERVAL", "1m")]).await;
    let ann = app.user().await;
    app.database.execute("UPDATE sessions SET revoked_at = 1").await;
    assert_eq!(ann.actor.get("/auth/users/me").await.status, 401);
    assert_eq!(ann.actor.get("/auth/verify").await.status, 200);
    app.database.execute(&format!("DELETE FROM users WHERE id = {}", ann.id)).await;
    assert_eq!(ann.actor.get("/auth/verify").await.status, 200);
}

#[tokio::test]
async fn every_way_to_end_a_session_stops_its_access_token_at_once() {
    let app = TestApp::with(&[("USERS__MAX_SESSIONS", "2")]).await;
    let ann = app.user().await;
    assert_eq!(app.sign_out(&ann.refresh).await.status, 204);
    assert_eq!(app.verify(&ann.access).await, 401, "signed out");

    let (phone, laptop) = (app.sign_in(&ann.email).await, app.sign_in(&ann.email).await);
    assert_eq!(laptop.actor.post("/auth/signout-all", &json!({})).await.status, 204);
    assert_eq!(
        (app.verify(&phone.access).await, app.verify(&laptop.access).await),
        (401, 401),
        "every session signed out"
    );

    let (phone, laptop) = (app.sign_in(&ann.email).await, app.sign_in(&ann.email).await);
    let sessions = laptop.actor.get("/auth/sessions").await.json;
    let other = sessions.as_array().unwrap().iter().find(|session| session["current"] == false).unwrap();
    let path = format!("/auth/sessions/{}", other["id"].as_str().unwrap());
    assert_eq!(laptop.actor.send(reqwest::Method::DELETE, &path, |request| request).await.status, 204);
    assert_eq!((app.verify(&phone.access).await, app.verify(&laptop.access).await), (401, 200), "one session ended");

    let phone = app.sign_in(&ann.email).await;
    let change = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
    assert_eq!(laptop.actor.post("/auth/password", &change).await.status, 204);
    assert_eq!(
        (app.verify(&phone.access).await, app.verify(&laptop.access).await),
        (401, 200),
        "all other sessions ended"
    );

    let sign_in = json!({"email": ann.email, "password": "another horse battery"});
    app.advance(1);
    for _ in 0..2 {
        assert_eq!(app.anon().post("/auth/signin", &sign_in).await.status, 200);
    }
    assert_eq!(app.verify(&laptop.access).await, 401, "the oldest session ended");
}

#[tokio::test]
async fn a_reused_refresh_token_ends_the_access_tokens_of_its_session() {
    let app = TestApp::with(&[("JWT__ROTATE_REFRESH_TOKENS", "true")]).await;
    let ann = app.user().await;
    let newest = app.refresh(&ann.refresh).await.string("access_token").to_owned();
    app.advance(60);
    assert_eq!(app.verify(&newest).await, 200);
    assert_eq!(app.refresh(&ann.refresh).await.code(), "refresh-reused");
    assert_eq!((app.verify(&newest).await, app.verify(&ann.access).await), (401, 401));
}
