//! The database goes away, stalls, is slow, or changes under the service

use crate::support::{Actor, PASSWORD, TestApp, TestDatabase, app::settings, email, within};
use futures_util::future::join_all;
use serde_json::json;
use signet::storage::{Storage, StorageError};
use std::time::Duration;

/// Asks until the answer is the awaited one; how soon it comes is the service's affair, within ten seconds.
async fn becomes(app: &TestApp, actor: &Actor, path: &str, status: u16) {
    within(10, async {
        // `readyz` compares clocks, and ours stands still unless it is moved.
        while {
            app.catch_up();
            actor.get(path).await.status
        } != status
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_database_that_goes_away_is_503_and_all_is_well_when_it_is_back() {
    outage(TestDatabase::take_away).await;
}

#[tokio::test]
async fn a_database_that_stalls_is_503_and_all_is_well_when_it_goes_on() {
    outage(TestDatabase::stall).await;
}

/// SQLite has no connection that could be reset.
#[tokio::test]
async fn a_database_whose_connections_are_reset_is_503_and_all_is_well_afterwards() {
    outage(async |database| if database.is_sqlite() { database.take_away().await } else { database.reset() }).await;
}

#[tokio::test]
async fn a_database_that_is_slow_gives_the_right_answers() {
    let mut app = TestApp::with(&[("DATABASE__ACQUIRE_TIMEOUT", "5s")]).await;
    let ann = app.user().await;
    app.database.delay();
    for _ in 0..2 {
        assert_eq!(within(6, app.create(&email())).await.status, 201);
        assert_eq!(within(6, ann.actor.get("/auth/users/me")).await.status, 200);
        assert_eq!(within(6, app.refresh(&ann.refresh)).await.status, 200);
    }
    if !app.database.is_sqlite() {
        app.database.bring_back().await;
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
        // SQLite's readers do not mind a writer; PostgreSQL is away for everybody.
        let ready = within(6, app.anon().get("/readyz")).await;
        assert_eq!((ready.status, &ready.json["checks"]["database"]), (503, &json!("unavailable")));
        assert_eq!(within(6, ann.actor.get("/auth/users/me")).await.code(), "unavailable");
    }
    app.database.bring_back().await;
    becomes(&app, &app.anon(), "/readyz", 200).await;
    let ann = app.sign_in(&ann.email).await;
    becomes(&app, &ann.actor, "/auth/users/me", 200).await;
    for _ in 0..5 {
        assert_eq!(app.create(&email()).await.status, 201);
    }
}

#[tokio::test]
async fn a_database_that_is_away_at_the_start_is_waited_for() {
    let mut database = TestDatabase::create().await;
    if database.is_sqlite() {
        // Nobody waits for a file: one that cannot be opened is said to be so, and the service does not start.
        let file = settings(&database, &[("DATABASE__URL", "sqlite:///proc/nowhere/signet.db")]);
        let error = Storage::open(&file, 1).await.err().expect("no such folder").to_string();
        assert!(error.contains("database.url") && error.contains("/proc/nowhere"), "{error}");
        return;
    }
    database.take_away().await;
    let bootstrap = [("BOOTSTRAP__SUPERUSER_EMAIL", "root@example.com"), ("BOOTSTRAP__SUPERUSER_PASSWORD", PASSWORD)];
    let mut app = TestApp::on(database, &bootstrap).await;
    assert_eq!(app.anon().get("/livez").await.status, 200);
    assert_eq!(app.anon().get("/readyz").await.status, 503);
    assert_eq!(app.create("ann@example.com").await.code(), "unavailable");
    app.database.bring_back().await;
    becomes(&app, &app.anon(), "/readyz", 200).await;
    // The tables are made and so is the first superuser, as if nothing had been.
    let body = json!({"email": "root@example.com", "password": PASSWORD});
    within(10, async { while app.anon().post("/auth/signin", &body).await.status != 200 {} }).await;
}

#[tokio::test]
async fn a_database_without_tables_says_what_to_do() {
    let database = TestDatabase::create().await;
    let storage = Storage::open(&settings(&database, &[]), 1).await.unwrap();
    match storage.has_superuser().await {
        Err(StorageError::Unavailable(reason)) => assert!(reason.contains("signet migrate"), "{reason}"),
        // SQLite has no code for it; but it migrates itself, so nobody sees this.
        other => assert!(database.is_sqlite() && other == Err(StorageError::Fault("code 1".to_owned())), "{other:?}"),
    }
}

/// What is written to it would be lost when the service stops.
#[tokio::test]
async fn a_database_file_that_was_replaced_makes_the_service_unready() {
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

/// Each connection has prepared its statements for the old type; nothing was executed, and a new connection prepares them again.
#[tokio::test]
async fn a_column_that_changes_its_type_is_noticed_by_no_client() {
    let app = TestApp::with(&[("DATABASE__MAX_CONNECTIONS", "8"), ("SERVER__WORKERS", "2")]).await;
    if app.database.is_sqlite() {
        return;
    }
    let ann = app.user().await;
    let ask = async || {
        let replies = join_all((0..16).map(|_| ann.actor.get("/auth/users/me"))).await;
        replies.iter().filter(|reply| reply.status != 200).count()
    };
    for length in [400, 500] {
        assert_eq!(ask().await, 0);
        app.database.execute(&format!("ALTER TABLE users ALTER COLUMN first_name TYPE varchar({length})")).await;
        assert_eq!(ask().await, 0);
    }
}

/// The transactions are written for READ COMMITTED, whatever the role or the database has as its default.
#[tokio::test]
async fn another_default_isolation_level_refuses_nobody() {
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
