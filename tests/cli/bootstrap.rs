//! `bootstrap.superuser_email`: the first superuser

use crate::support::{PASSWORD, TestApp};
use serde_json::json;

#[tokio::test]
async fn the_bootstrap_superuser_is_created_once() {
    let bootstrap = [("BOOTSTRAP__SUPERUSER_EMAIL", "root@example.com"), ("BOOTSTRAP__SUPERUSER_PASSWORD", PASSWORD)];
    let app = TestApp::with(&bootstrap).await;
    let root = app.sign_in("root@example.com").await;
    let me = root.actor.get("/auth/users/me").await.json;
    assert_eq!(
        (&me["is_superuser"], &me["is_staff"], &me["username"]),
        (&json!(true), &json!(true), &json!("root@example.com"))
    );
    let other = [("BOOTSTRAP__SUPERUSER_EMAIL", "other@example.com"), ("BOOTSTRAP__SUPERUSER_PASSWORD", PASSWORD)];
    let app = app.restart(&other).await;
    assert_eq!(app.database.count("users").await, "1");
    assert_eq!(app.bearer(&root.access).get("/auth/users/me").await.status, 200, "tokens outlive a restart");
}

#[tokio::test]
async fn bootstrap_signs_out_an_earlier_user_of_the_superuser_address() {
    let app = TestApp::start().await;
    let earlier = app.user_with_email("root@example.com").await;
    let bootstrap = [
        ("BOOTSTRAP__SUPERUSER_EMAIL", "root@example.com"),
        ("BOOTSTRAP__SUPERUSER_PASSWORD", "another horse battery"),
    ];
    let app = app.restart(&bootstrap).await;
    assert_eq!(app.refresh(&earlier.refresh).await.status, 401);
    assert_eq!(app.bearer(&earlier.access).get("/auth/users/me").await.status, 401);
    assert_eq!(app.try_sign_in("root@example.com", PASSWORD).await.status, 401);
    assert_eq!(app.try_sign_in("root@example.com", "another horse battery").await.status, 200);
}
