//! `bootstrap.superuser_email`: the first superuser

use crate::support::{PASSWORD, TestApp, TestDatabase};
use serde_json::json;

#[tokio::test]
async fn the_bootstrap_superuser_is_made_once() {
    let bootstrap = [("BOOTSTRAP__SUPERUSER_EMAIL", "root@example.com"), ("BOOTSTRAP__SUPERUSER_PASSWORD", PASSWORD)];
    let mut app = TestApp::with(&bootstrap).await;
    let root = app.sign_in("root@example.com").await;
    let me = root.actor.get("/auth/users/me").await.json;
    assert_eq!(
        (&me["is_superuser"], &me["is_staff"], &me["username"]),
        (&json!(true), &json!(true), &json!("root@example.com"))
    );
    app.stopped();
    let database = std::mem::replace(&mut app.database, TestDatabase::create().await);
    let other = [("BOOTSTRAP__SUPERUSER_EMAIL", "other@example.com"), ("BOOTSTRAP__SUPERUSER_PASSWORD", PASSWORD)];
    let app = TestApp::on(database, &other).await;
    assert_eq!(app.database.value("SELECT CAST(COUNT(*) AS TEXT) FROM users").await, "1");
    assert_eq!(app.bearer(&root.access).get("/auth/users/me").await.status, 200, "tokens outlive a restart");
}

#[tokio::test]
async fn whoever_took_the_address_of_the_superuser_before_is_out() {
    let mut app = TestApp::start().await;
    let squatter = app.user_named("root@example.com").await;
    app.stopped();
    let database = std::mem::replace(&mut app.database, TestDatabase::create().await);
    let bootstrap = [
        ("BOOTSTRAP__SUPERUSER_EMAIL", "root@example.com"),
        ("BOOTSTRAP__SUPERUSER_PASSWORD", "another horse battery"),
    ];
    let app = TestApp::on(database, &bootstrap).await;
    assert_eq!(app.refresh(&squatter.refresh).await.status, 401);
    assert_eq!(app.bearer(&squatter.access).get("/auth/users/me").await.status, 401);
    let body = |password: &str| json!({"email": "root@example.com", "password": password});
    assert_eq!(app.anon().post("/auth/signin", &body(PASSWORD)).await.status, 401);
    assert_eq!(app.anon().post("/auth/signin", &body("another horse battery")).await.status, 200);
}
