//! Expired rows are purged, and no others.

use crate::support::{TestApp, actor::http_client, eventually};
use signet::{
    domain::{Timestamp, TokenId},
    storage::Expiring,
};
use std::time::Duration;
use tokio::time::Instant;

const FIRST: Timestamp = Timestamp(i64::MIN);

#[tokio::test]
async fn a_session_is_purged_after_its_last_token_expired() {
    let app = TestApp::with(&[("JWT__REFRESH_TOKEN_LIFETIME", "1h")]).await;
    let ann = app.user().await;
    let storage = app.storage().await;
    let begun = app.now();
    // Its last access token may have been issued in its last second, by a clock that is 60 s ahead.
    let last = begun + 3600 + 300 + 60;
    let purge = async |now: i64| storage.purge(Expiring::Sessions, 10, FIRST, Timestamp(now)).await.unwrap().rows;
    assert_eq!((purge(begun).await, purge(last).await), (0, 0));
    assert_eq!((purge(last + 1).await, purge(last + 1).await), (1, 0));
    assert_eq!(app.refresh(&ann.refresh).await.code(), "invalid-token");
}

#[tokio::test]
async fn an_ended_session_is_purged_after_its_access_tokens_expired() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.sign_out(&ann.refresh).await;
    let (storage, now) = (app.storage().await, app.now());
    let purge = async |now: i64| storage.purge(Expiring::Sessions, 10, FIRST, Timestamp(now)).await.unwrap().rows;
    assert_eq!((purge(now + 360).await, purge(now + 361).await), (0, 1));
    assert_eq!(app.sign_out(&ann.refresh).await.status, 204);
    assert_eq!(app.refresh(&ann.refresh).await.code(), "invalid-token");
}

#[tokio::test]
async fn a_revocation_is_purged_after_its_tokens_expired() {
    let app = TestApp::start().await;
    let (storage, now) = (app.storage().await, app.now());
    for token in [7, 8] {
        storage.revoke_token(TokenId::from_bits([token; 16]), None, &Timestamp(now).into()).await.unwrap();
    }
    let purge = async |now: i64| storage.purge(Expiring::Revocations, 10, FIRST, Timestamp(now)).await.unwrap().rows;
    assert_eq!((purge(now + 360).await, purge(now + 361).await), (0, 1));
    assert_eq!(purge(now + 1000).await, 0, "the last row stays: replicas compare their position in the feed with it");
    assert_eq!(storage.revoked_count(), 2);
    storage.forget_revocations(Timestamp(now + 359));
    assert_eq!(storage.revoked_count(), 2);
    storage.forget_revocations(Timestamp(now + 360));
    assert_eq!(storage.revoked_count(), 0);
}

#[tokio::test]
async fn a_purge_deletes_the_oldest_rows_in_batches() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    for _ in 0..6 {
        app.advance(1);
        app.sign_in(&ann.email).await;
    }
    let (storage, later) = (app.storage().await, Timestamp(app.now() + 1_000_000));
    let (mut from, mut batches) = (FIRST, Vec::new());
    loop {
        let purged = storage.purge(Expiring::Sessions, 3, from, later).await.unwrap();
        assert!(purged.up_to >= from);
        from = purged.up_to;
        batches.push(purged.rows);
        if purged.rows == 0 {
            break;
        }
    }
    assert_eq!(batches, [3, 3, 1, 0]);
}

#[tokio::test]
async fn the_service_purges_expired_sessions_and_counts_them() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.user().await, app.user().await);
    let id = if app.database.is_sqlite() { "randomblob(16)" } else { "gen_random_uuid()" };
    let expired = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 300) \
         INSERT INTO sessions (id, user_id, generation, created_at, rotated_at, last_used_at, expires_at, \
         absolute_expires_at, revoked_at, user_agent, ip) SELECT {id}, {}, 0, 0, 0, 0, 1, 1, NULL, NULL, NULL FROM numbers",
        bob.id
    );
    app.database.execute(&expired).await;
    assert_eq!(app.database.count("sessions").await, "302");
    let app = app.restart(&[]).await;
    eventually("2".to_owned(), async || app.database.count("sessions").await).await;
    eventually(true, async || {
        let metrics = app.anon().get("/metrics").await.text;
        metrics.contains("signet_purged_rows_total{table=\"sessions\"} 300\n")
    })
    .await;
    for user in [&ann, &bob] {
        assert_eq!(app.refresh(&user.refresh).await.status, 200, "other sessions are not purged");
    }
}

/// The service tells PostgreSQL not to scan tables: with old statistics the planner scans a large table, and then every
/// sign-in takes seconds.
#[tokio::test]
async fn no_request_scans_a_whole_table() {
    /// Stops the service and returns how often PostgreSQL scanned a table; connections report it when they end.
    async fn scans(app: &mut TestApp) -> String {
        const SCANS: &str =
            "SELECT CAST(SUM(seq_scan) AS TEXT) FROM pg_stat_user_tables WHERE relname IN ('users', 'sessions')";
        const CONNECTIONS: &str = "SELECT CAST(COUNT(*) AS TEXT) FROM pg_stat_activity \
             WHERE application_name = 'signet' AND datname = current_database()";
        app.service.begin_stop();
        eventually("0".to_owned(), async || app.database.value(CONNECTIONS).await).await;
        app.database.value(SCANS).await
    }
    let mut app = TestApp::start().await;
    if app.database.is_sqlite() {
        return;
    }
    let before = scans(&mut app).await;
    let mut app = app.restart(&[("USERS__MAX_SESSIONS", "2")]).await;
    let ann = app.user().await;
    for _ in 0..3 {
        let again = app.sign_in(&ann.email).await;
        assert_eq!(app.refresh(&again.refresh).await.status, 200);
        assert_eq!(again.actor.get("/auth/sessions").await.status, 200);
        assert_eq!(again.actor.get("/auth/users").await.status, 200);
        assert_eq!(app.sign_out(&again.refresh).await.status, 204);
    }
    assert_eq!(scans(&mut app).await, before);
}

const TEN_MILLION: usize = 10_000_000;

/// Signs in at a fixed rate and prints the median, the 99th percentile and the maximum of the durations.
async fn sign_ins(app: &TestApp, emails: &[String], what: &str, seconds: u64) {
    const PER_SECOND: u32 = 50;
    let client = http_client().build().unwrap();
    let url = format!("http://{}/auth/signin", app.address);
    let mut emails = emails.iter().cycle();
    let mut every = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    let mut sign_ins = Vec::new();
    for _ in 0..seconds * u64::from(PER_SECOND) {
        every.tick().await;
        let body = serde_json::json!({"email": emails.next(), "password": crate::support::PASSWORD});
        let (request, began) = (client.post(&url).json(&body), Instant::now());
        sign_ins.push(tokio::spawn(async move { (request.send().await.unwrap().status(), began.elapsed()) }));
    }
    let mut times = Vec::new();
    for sign_in in sign_ins {
        let (status, time) = sign_in.await.unwrap();
        assert_eq!(status, 200, "{what}: after {time:?}");
        times.push(time);
    }
    times.sort();
    let (median, slow, slowest) = (times[times.len() / 2], times[times.len() * 99 / 100], times[times.len() - 1]);
    println!("{what}: {} sign-ins, median {median:.1?}, p99 {slow:.1?}, slowest {slowest:.1?}", times.len());
}

#[tokio::test]
#[ignore = "takes ten minutes: scripts/test --ignored --nocapture ten_million"]
async fn sign_ins_continue_while_ten_million_expired_sessions_are_purged() {
    let mut app = TestApp::start().await;
    let ann = app.user().await;
    let mut emails = vec![ann.email.clone()];
    for _ in 1..20 {
        emails.push(app.user().await.email);
    }
    sign_ins(&app, &emails, "nothing to purge", 20).await;
    app.service.stop();
    let began = Instant::now();
    let (prepare, id) = if app.database.is_sqlite() {
        ("PRAGMA cache_size = -4000000;", "randomblob(16)")
    } else {
        ("", "gen_random_uuid()")
    };
    let fill = format!(
        "{prepare} WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {TEN_MILLION}) \
         INSERT INTO sessions (id, user_id, generation, created_at, rotated_at, last_used_at, expires_at, \
         absolute_expires_at, revoked_at, user_agent, ip) SELECT {id}, {}, 0, n, n, n, n, n, NULL, 'a browser', '192.0.2.1' FROM numbers",
        ann.id
    );
    app.database.execute(&fill).await;
    println!("{TEN_MILLION} expired sessions, created in {:.0?}", began.elapsed());

    let app = app.restart(&[]).await;
    let began = Instant::now();
    let purged = async || -> usize {
        let metrics = app.anon().get("/metrics").await.text;
        let line = metrics.lines().find_map(|line| line.strip_prefix("signet_purged_rows_total{table=\"sessions\"} "));
        line.map_or(0, |count| count.parse().unwrap())
    };
    for _ in 0..4 {
        sign_ins(&app, &emails, "during the purge", 30).await;
        let (rows, seconds) = (purged().await, began.elapsed().as_secs_f64());
        println!("{rows} rows purged after {seconds:.0} s, {:.0} a second", rows as f64 / seconds);
        assert!(rows > 0);
    }
}
