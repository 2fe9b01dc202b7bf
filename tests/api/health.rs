//! `GET /livez` and `GET /readyz`

use crate::support::TestApp;
use serde_json::json;

#[tokio::test]
async fn a_running_service_is_alive_and_ready() {
    let app = TestApp::start().await;
    let live = app.anon().get("/livez").await;
    assert_eq!((live.status, live.text.as_str()), (200, "ok"));
    let ready = app.anon().get("/readyz").await;
    let checks = json!({"database": "ok", "migrations": "ok", "revocations": "ok", "clock": "ok"});
    assert_eq!((ready.status, &ready.json), (200, &json!({"status": "ready", "checks": checks})));
}

#[tokio::test]
async fn pending_migrations_make_the_service_unready() {
    let app = TestApp::start().await;
    app.database.execute("DELETE FROM _sqlx_migrations").await;
    let ready = app.anon().get("/readyz").await;
    assert_eq!((ready.status, &ready.json["checks"]["migrations"]), (503, &json!("pending")));
    assert_eq!(ready.header("retry-after"), "1");
}
