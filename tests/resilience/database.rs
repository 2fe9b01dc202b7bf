//! The database becomes unreachable, stalls, is slow, or changes while the service runs

use crate::support::{Actor, PASSWORD, TestApp, TestDatabase, app::settings, email, eventually, within};
use futures_util::future::join_all;
use serde_json::json;
use signet::storage::{Storage, StorageError};

/// Waits until a request gets this status. `readyz` compares clocks, so the clock of the service follows the system
/// time meanwhile.
async fn becomes(app: &TestApp, actor: &Actor, path: &str, status: u16) {
    eventually(status, async || {
        app.sync_clock();
        actor.get(path).await.status
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_database_is_503_until_it_is_back() {
    outage(TestDatabase::interrupt).await;
}

#[tokio::test]
async fn a_stalled_database_is_503_until_it_continues() {
    outage(TestDatabase::stall).await;
}

/// SQLite has no connections to reset.
#[tokio::test]
async fn a_database_that_resets_connections_is_503_until_it_stops() {
    outage(async |database| if database.is_sqlite() { database.interrupt().await } else { database.reset() }).await;
}

#[tokio::test]
async fn a_slow_database_gives_the_right_replies() {
    let mut app = TestApp::with(&[("DATABASE__ACQUIRE_TIMEOUT", "5s")]).await;
    let ann = app.user().await;
    app.database.delay();
    for _ in 0..2 {
        assert_eq!(within(6, app.create(&email())).await.status, 201);
        assert_eq!(within(6, ann.actor.get("/auth/users/me")).await.status, 200);
        assert_eq!(within(6, app.refresh(&ann.refresh)).await.status, 200);
    }
    if !app.database.is_sqlite() {
        app.database.restore().await;
    }
    assert_eq!(app.create(&email()).await.status, 201);
}

async fn outage(begin: impl AsyncFnOnce(&mut TestDatabase)) {
    let mut app = TestApp::start().await;
    let ann = app.user().await;
    begin(&mut app.database).await;
    for _ in 0..2 {
        let reply = within(6, app.create(&email())).await;
        assert_eq!((reply.status, reply.code()), (503, "unavailable"));
    }
    assert_eq!(app.anon().get("/livez").await.status, 200);
    if !app.database.is_sqlite() {
        // A SQLite writer does not block readers; without PostgreSQL the service can read nothing.
        let ready = within(6, app.anon().get("/readyz")).await;
        assert_eq!((ready.status, &ready.json["checks"]["database"]), (503, &json!("unavailable")));
        assert_eq!(within(6, ann.actor.get("/auth/users/me")).await.code(), "unavailable");
    }
    app.database.restore().await;
    becomes(&app, &app.anon(), "/readyz", 200).await;
    let ann = app.sign_in(&ann.email).await;
    becomes(&app, &ann.actor, "/auth/users/me", 200).await;
    for _ in 0..5 {
        assert_eq!(app.create(&email()).await.status, 201);
    }
}

#[tokio::test]
async fn the_service_starts_without_a_database_and_waits_for_it() {
    let mut database = TestDatabase::create().await;
    if database.is_sqlite() {
        // The service does not wait for a file: if it cannot open the file, it reports that and does not start.
        let file = settings(&database, &[("DATABASE__URL", "sqlite:///proc/nowhere/signet.db")]);
        let error = Storage::open(&file, 1).await.err().expect("no such folder").to_string();
        assert!(error.contains("database.url") && error.contains("/proc/nowhere"), "{error}");
        return;
    }
    database.interrupt().await;
    let bootstrap = [("BOOTSTRAP__SUPERUSER_EMAIL", "root@example.com"), ("BOOTSTRAP__SUPERUSER_PASSWORD", PASSWORD)];
    let mut app = TestApp::on(database, &bootstrap).await;
    assert_eq!(app.anon().get("/livez").await.status, 200);
    assert_eq!(app.anon().get("/readyz").await.status, 503);
    assert_eq!(app.create("ann@example.com").await.code(), "unavailable");
    app.database.restore().await;
    becomes(&app, &app.anon(), "/readyz", 200).await;
    // Then the service creates the tables and the first superuser.
    eventually(200, async || app.try_sign_in("root@example.com", PASSWORD).await.status).await;
}

#[tokio::test]
async fn a_database_without_tables_is_reported_with_the_migrate_command() {
    let database = TestDatabase::create().await;
    let storage = Storage::open(&settings(&database, &[]), 1).await.unwrap();
    match storage.has_superuser().await {
        Err(StorageError::Unavailable(reason)) => assert!(reason.contains("signet migrate"), "{reason}"),
        // SQLite has no error code for a missing table, and the service always migrates SQLite.
        other => assert!(database.is_sqlite() && other == Err(StorageError::Fault("code 1".to_owned())), "{other:?}"),
    }
}

/// Rows that are written to the old file would be lost when the service stops.
#[tokio::test]
async fn a_replaced_database_file_makes_the_service_unready() {
    let app = TestApp::start().await;
    app.user().await;
    let ready = app.anon().get("/readyz").await;
    assert_eq!((ready.status, &ready.json["checks"]["database"]), (200, &json!("ok")));
    let TestDatabase::Sqlite { folder, .. } = &app.database else { return };
    let (file, aside) = (folder.path().join("signet.db"), folder.path().join("aside.db"));
    std::fs::rename(&file, &aside).unwrap();
    for replace in [false, true] {
        if replace {
            std::fs::copy(&aside, &file).unwrap();
        }
        let ready = app.anon().get("/readyz").await;
        assert_eq!((ready.status, &ready.json["checks"]["database"]), (503, &json!("replaced")));
    }
    std::fs::rename(&aside, &file).unwrap();
    assert_eq!(app.anon().get("/readyz").await.status, 200);
}

/// Each connection has prepared its statements for the old type. The failed statement was not executed, so the service
/// repeats it on a new connection.
#[tokio::test]
async fn a_changed_column_type_fails_no_request() {
    let app = TestApp::with(&[("DATABASE__MAX_CONNECTIONS", "8"), ("SERVER__WORKERS", "2")]).await;
    if app.database.is_sqlite() {
        return;
    }
    let ann = app.user().await;
    let failures = async || {
        let replies = join_all((0..16).map(|_| ann.actor.get("/auth/users/me"))).await;
        replies.iter().filter(|reply| reply.status != 200).count()
    };
    for length in [400, 500] {
        assert_eq!(failures().await, 0);
        app.database.execute(&format!("ALTER TABLE users ALTER COLUMN first_name TYPE varchar({length})")).await;
        assert_eq!(failures().await, 0);
    }
}

/// The transactions need READ COMMITTED, whatever the default of the role or the database is.
#[tokio::test]
async fn another_default_isolation_level_fails_no_request() {
    let database = TestDatabase::create().await;
    if let TestDatabase::Postgres { name, .. } = &database {
        database.execute(&format!("ALTER DATABASE {name} SET default_transaction_isolation = serializable")).await;
    }
    let app = TestApp::on(database, &[("SERVER__WORKERS", "4")]).await;
    let ann = app.user().await;
    let mut sessions = Vec::new();
    for _ in 0..48 {
        sessions.push(app.sign_in(&ann.email).await);
    }
    let replies = join_all(sessions.iter().map(|session| app.sign_out(&session.refresh))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 204).count(), 48);
}
