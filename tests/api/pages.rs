//! Health, the OpenAPI document, and the pages for people.

use crate::support::{PASSWORD, TestApp, actor::DOCUMENT, all};
use reqwest::Method;
use serde_json::json;
use signet::http::Code;
use std::collections::BTreeSet;

#[tokio::test]
async fn a_service_that_runs_is_alive_and_ready() {
    let app = TestApp::start().await;
    let live = app.anon().get("/livez").await;
    assert_eq!((live.status, live.text.as_str()), (200, "ok"));
    let ready = app.anon().get("/readyz").await;
    let checks = json!({"database": "ok", "migrations": "ok", "revocations": "ok", "clock": "ok"});
    assert_eq!((ready.status, &ready.json), (200, &json!({"status": "ready", "checks": checks})));
}

#[tokio::test]
async fn a_database_whose_tables_are_missing_is_not_ready() {
    let app = TestApp::start().await;
    app.database.execute("DELETE FROM _sqlx_migrations").await;
    let ready = app.anon().get("/readyz").await;
    assert_eq!((ready.status, &ready.json["checks"]["migrations"]), (503, &json!("pending")));
    assert_eq!(ready.header("retry-after"), "1");
}

#[tokio::test]
async fn the_document_is_served_as_it_is_committed() {
    let app = TestApp::start().await;
    let served = app.anon().get("/openapi.json").await;
    let committed: serde_json::Value = serde_json::from_str(include_str!("../../openapi/openapi.json")).unwrap();
    assert_eq!((served.header("content-type"), &served.json), ("application/json", &committed));
}

/// Each operation of the document, called so that it succeeds; what it answers is checked against its schema, as every
/// answer to any test is.
#[tokio::test]
async fn every_operation_of_the_document_can_be_called() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let other = app.sign_in(&ann.email).await;
    let (bearer, stranger) = (&ann.actor, app.anon());
    let credentials = |email: &str| json!({"email": email, "password": PASSWORD});
    let refresh = |token: &str| json!({ "refresh_token": token });
    let sessions = bearer.get("/auth/sessions").await.json;
    let session = sessions.as_array().unwrap().iter().find(|session| session["current"] == false).unwrap();
    let end = format!("/auth/sessions/{}", session["id"].as_str().unwrap());
    let password = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
    let replies = [
        ("post /auth/create", stranger.post("/auth/create", &credentials("bob@example.com")).await),
        ("post /auth/signin", stranger.post("/auth/signin", &credentials("bob@example.com")).await),
        ("post /auth/refresh-access", stranger.post("/auth/refresh-access", &refresh(&ann.refresh)).await),
        ("get /auth/sessions", bearer.get("/auth/sessions").await),
        ("delete /auth/sessions/{id}", bearer.send(Method::DELETE, &end, |request| request).await),
        ("get /auth/users", bearer.get("/auth/users?limit=1").await),
        ("get /auth/users/me", bearer.get("/auth/users/me").await),
        ("patch /auth/users/me", bearer.patch("/auth/users/me", &json!({"first_name": "Ann"})).await),
        ("get /auth/verify", bearer.get("/auth/verify").await),
        ("post /auth/password", bearer.post("/auth/password", &password).await),
        ("post /auth/signout", stranger.post("/auth/signout", &refresh(&other.refresh)).await),
        ("post /auth/signout-all", bearer.send(Method::POST, "/auth/signout-all", |request| request).await),
        ("get /.well-known/jwks.json", stranger.get("/.well-known/jwks.json").await),
        ("get /livez", stranger.get("/livez").await),
        ("get /readyz", stranger.get("/readyz").await),
        ("get /metrics", stranger.get("/metrics").await),
        ("get /openapi.json", stranger.get("/openapi.json").await),
    ];
    all(
        "operations",
        &replies,
        |(name, _)| (*name).to_owned(),
        |(_, reply)| (!(200..300).contains(&reply.status)).then(|| format!("{reply:?}")),
    );
    let documented = DOCUMENT["paths"].as_object().unwrap().iter().flat_map(|(path, operations)| {
        operations.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
    });
    let called: BTreeSet<String> = replies.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(called, documented.collect());
}

#[tokio::test]
async fn the_swagger_page_needs_nothing_from_elsewhere() {
    let app = TestApp::start().await;
    let anon = app.anon();
    for path in ["/", "/docs/swagger"] {
        let reply = anon.get(path).await;
        assert_eq!((reply.status, reply.header("location")), (302, "/docs/swagger/"), "{path}");
    }
    let page = anon.get("/docs/swagger/").await;
    assert!(page.status == 200 && page.header("content-type").starts_with("text/html"), "{page:?}");
    assert!(!page.text.contains("//unpkg.com") && !page.text.contains("https://"), "{}", page.text);
    let files: Vec<&str> = page.text.split(['"', '\'']).filter(|text| text.starts_with("./")).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let reply = anon.get(&format!("/docs/swagger/{}", file.trim_start_matches("./"))).await;
        assert_eq!(reply.status, 200, "{file}");
    }
    let script = anon.get("/docs/swagger/swagger-initializer.js").await;
    assert!(script.text.contains("../../openapi.json") && script.text.contains("none"), "{}", script.text);
}

#[tokio::test]
async fn every_code_is_explained() {
    let app = TestApp::start().await;
    let page = app.anon().get("/docs/errors").await;
    assert!(page.status == 200 && page.header("content-type").starts_with("text/html"));
    let rows: Vec<_> = Code::ALL.iter().map(|code| (code.name, code.status)).collect();
    all(
        "codes on the page",
        &rows,
        |row| row.0.to_owned(),
        |(code, status)| {
            (!page.text.contains(&format!("<tr id=\"{code}\"><td><code>{code}</code><td>{status}<td>")))
                .then(|| "is missing".to_owned())
        },
    );
}

#[tokio::test]
async fn pages_can_be_turned_off() {
    let app = TestApp::with(&[("SERVER__DOCS", "false")]).await;
    for path in ["/", "/docs/swagger", "/docs/swagger/", "/docs/errors"] {
        assert_eq!(app.anon().get(path).await.status, 404, "{path}");
    }
    assert_eq!(app.anon().get("/openapi.json").await.status, 200);
}
