//! What has expired goes by itself, and nothing else does.

use crate::support::{TestApp, TestDatabase, eventually};
use signet::{
    domain::{Timestamp, TokenId},
    storage::Expiring,
};
use std::time::Duration;
use tokio::time::Instant;

const FIRST: Timestamp = Timestamp(i64::MIN);

async fn count(database: &TestDatabase, table: &str) -> String {
    database.value(&format!("SELECT CAST(COUNT(*) AS TEXT) FROM {table}")).await
}

#[tokio::test]
async fn a_session_goes_when_nothing_of_it_can_be_about_any_more() {
    let app = TestApp::with(&[("JWT__REFRESH_TOKEN_LIFETIME", "1h")]).await;
    let ann = app.user().await;
    let storage = app.storage().await;
    let begun = app.now();
    // Its last access token may have been made in its last second, by a clock that is ahead.
    let last = begun + 3600 + 300 + 60;
    let purge = async |now: i64| storage.purge(Expiring::Sessions, 10, FIRST, Timestamp(now)).await.unwrap().rows;
    assert_eq!((purge(begun).await, purge(last).await), (0, 0));
    assert_eq!((purge(last + 1).await, purge(last + 1).await), (1, 0));
    assert_eq!(app.refresh(&ann.refresh).await.code(), "invalid-token");
}

#[tokio::test]
async fn a_session_that_was_ended_goes_as_soon_as_its_tokens_have() {
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
async fn a_revocation_goes_when_it_concerns_no_token_any_more() {
    let app = TestApp::start().await;
    let (storage, now) = (app.storage().await, app.now());
    for token in [7, 8] {
        storage.revoke_token(TokenId::from_bits([token; 16]), Timestamp(now)).await.unwrap();
    }
    let purge = async |now: i64| storage.purge(Expiring::Revocations, 10, FIRST, Timestamp(now)).await.unwrap().rows;
    assert_eq!((purge(now + 360).await, purge(now + 361).await), (0, 1));
    assert_eq!(purge(now + 1000).await, 0, "the last stays: by it followers know their place");
    assert_eq!(storage.revoked_count(), 2);
    storage.forget_revocations(Timestamp(now + 359));
    assert_eq!(storage.revoked_count(), 2);
    storage.forget_revocations(Timestamp(now + 360));
    assert_eq!(storage.revoked_count(), 0);
}

#[tokio::test]
async fn batches_go_from_the_oldest_on_and_are_as_small_as_asked() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    for _ in 0..6 {
        app.pass(1);
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
async fn the_service_purges_by_itself_and_counts_it() {
    let mut app = TestApp::start().await;
    let (ann, bob) = (app.user().await, app.user().await);
    let id = if app.database.is_sqlite() { "randomblob(16)" } else { "gen_random_uuid()" };
    let expired = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 300) \
         INSERT INTO sessions (id, user_id, generation, created_at, rotated_at, last_used_at, expires_at, \
         absolute_expires_at, revoked_at, user_agent, ip) SELECT {id}, {}, 0, 0, 0, 0, 1, 1, NULL, NULL, NULL FROM numbers",
        bob.id
    );
    app.database.execute(&expired).await;
    assert_eq!(count(&app.database, "sessions").await, "302");
    app.stopped();
    let database = std::mem::replace(&mut app.database, TestDatabase::create().await);
    let app = TestApp::on(database, &[]).await;
    eventually("2".to_owned(), async || count(&app.database, "sessions").await).await;
    eventually(true, async || {
        let metrics = app.anon().get("/metrics").await.text;
        metrics.contains("signet_purged_rows_total{table=\"sessions\"} 300\n")
    })
    .await;
    for user in [&ann, &bob] {
        assert_eq!(app.refresh(&user.refresh).await.status, 200, "and nobody else is touched");
    }
}

/// PostgreSQL reads a table as small as this one from its start, unless it is told not to; of a large one it may think the
/// same while its statistics are old, and then every sign-in takes seconds.
#[tokio::test]
async fn no_request_reads_a_whole_table() {
    /// How often a table was read from its start, which connections tell when they end.
    async fn scans(app: &mut TestApp) -> String {
        const SCANS: &str =
            "SELECT CAST(SUM(seq_scan) AS TEXT) FROM pg_stat_user_tables WHERE relname IN ('users', 'sessions')";
        const OURS: &str = "SELECT CAST(COUNT(*) AS TEXT) FROM pg_stat_activity \
             WHERE application_name = 'signet' AND datname = current_database()";
        app.stop();
        eventually("0".to_owned(), async || app.database.value(OURS).await).await;
        app.database.value(SCANS).await
    }
    let mut app = TestApp::start().await;
    if app.database.is_sqlite() {
        return;
    }
    let before = scans(&mut app).await;
    let database = std::mem::replace(&mut app.database, TestDatabase::create().await);
    let mut app = TestApp::on(database, &[("USERS__MAX_SESSIONS", "2")]).await;
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

/// Signs in at a fixed rate for so long, and says how long that took: the median, the slowest of a hundred, the slowest.
async fn sign_ins(app: &TestApp, emails: &[String], what: &str, seconds: u64) {
    const PER_SECOND: u32 = 50;
    let client = crate::support::actor::http_client();
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
async fn ten_million_expired_sessions_do_not_stop_sign_ins_while_they_go() {
    let mut app = TestApp::start().await;
    let ann = app.user().await;
    let mut emails = vec![ann.email.clone()];
    for _ in 1..20 {
        emails.push(app.user().await.email);
    }
    sign_ins(&app, &emails, "nothing to purge", 20).await;
    app.stopped();
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
    println!("{TEN_MILLION} expired sessions, made in {:.0?}", began.elapsed());

    let database = std::mem::replace(&mut app.database, TestDatabase::create().await);
    let app = TestApp::on(database, &[]).await;
    let began = Instant::now();
    let purged = async || -> usize {
        let metrics = app.anon().get("/metrics").await.text;
        let line = metrics.lines().find_map(|line| line.strip_prefix("signet_purged_rows_total{table=\"sessions\"} "));
        line.map_or(0, |count| count.parse().unwrap())
    };
    for _ in 0..4 {
        sign_ins(&app, &emails, "while it shrinks", 30).await;
        let (gone, seconds) = (purged().await, began.elapsed().as_secs_f64());
        println!("{gone} gone after {seconds:.0} s, {:.0} a second", gone as f64 / seconds);
        assert!(gone > 0);
    }
}
