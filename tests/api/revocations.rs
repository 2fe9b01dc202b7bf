//! `GET /auth/revocations`, the feed for services that verify access tokens themselves

use crate::support::{Reply, TestApp, app::TestClient, eventually, token::take_apart};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

async fn start() -> (TestApp, TestClient) {
    let app = TestApp::start().await;
    let client = app.client("", &[]).await;
    (app, client)
}

async fn read(client: &TestClient, query: &str) -> Reply {
    client.actor.get(&format!("/auth/revocations?{query}")).await
}

fn values(reply: &Reply) -> Vec<(String, String)> {
    let text = |row: &Value, member: &str| row[member].as_str().unwrap().to_owned();
    let rows = reply.json["revocations"].as_array().unwrap();
    rows.iter().map(|row| (text(row, "claim"), text(row, "value"))).collect()
}

#[tokio::test]
async fn ended_sessions_and_revoked_tokens_are_in_the_feed() {
    let (app, client) = start().await;
    let (ann, bob) = (app.user().await, app.user().await);
    let empty = read(&client, "").await;
    assert_eq!((values(&empty), &empty.json["next"]), (vec![], &json!(0)));
    app.sign_out(&ann.refresh).await;
    client.actor.form("/oauth/revoke", &[("token", &bob.access)]).await;
    let page = read(&client, "after=0").await;
    let jti = take_apart(&bob.access).claims["jti"].as_str().unwrap().to_owned();
    assert_eq!(values(&page), [("sid".to_owned(), ann.sid()), ("jti".to_owned(), jti)]);
    assert_eq!((&page.json["next"], &page.json["revocations"][0]["seq"]), (&json!(2), &json!(1)));
    assert!(page.json["revocations"][0]["expires_at"].as_str().unwrap().ends_with('Z'));
    let feed = page.string("feed");
    assert_eq!(values(&read(&client, &format!("feed={feed}&after=1")).await).len(), 1);
    let end = read(&client, &format!("feed={feed}&after=2")).await;
    assert_eq!((values(&end), &end.json["next"]), (vec![], &json!(2)));
}

#[tokio::test]
async fn a_number_is_never_on_two_pages() {
    let (app, client) = start().await;
    let insert = |seq: i64, place: i64| {
        let id = format!("{:032x}", seq * 10_000 + place);
        let id = if app.database.is_sqlite() { format!("x'{id}'") } else { format!("'{id}'") };
        format!("({seq}, {id}, 'sid', {})", app.now())
    };
    // Five numbers with 300 rows each, one with 1,200, and one with a single row.
    let sizes = [300, 300, 300, 300, 300, 1200, 1];
    for (seq, size) in (1..).zip(sizes) {
        let rows: Vec<String> = (0..size).map(|place| insert(seq, place)).collect();
        app.database
            .execute(&format!("INSERT INTO revocations (seq, value, claim, ended_at) VALUES {}", rows.join(", ")))
            .await;
    }
    app.database.execute("UPDATE revocation_feed SET seq = 7").await;
    let (mut after, mut pages) = (json!(0), Vec::new());
    loop {
        let page = read(&client, &format!("after={after}")).await;
        let count = values(&page).len();
        if count == 0 {
            break;
        }
        pages.push((count, page.json["next"].clone()));
        after = page.json["next"].clone();
    }
    assert_eq!(pages, [(900, json!(3)), (600, json!(5)), (1200, json!(6)), (1, json!(7))]);
}

#[tokio::test]
async fn a_position_that_is_not_of_this_feed_is_410() {
    let (app, client) = start().await;
    let ann = app.user().await;
    app.sign_out(&ann.refresh).await;
    let feed = read(&client, "").await.string("feed").to_owned();
    for query in
        ["after=2", "after=9223372036854775807", "feed=x", "feed=", &format!("after=1&feed={}", "0".repeat(32))]
    {
        let reply = read(&client, query).await;
        assert_eq!((reply.status, reply.code()), (410, "feed-reset"), "{query}");
    }
    let waited = Instant::now();
    assert_eq!(read(&client, "after=9&wait=30").await.status, 410);
    assert!(waited.elapsed() < Duration::from_secs(10), "it does not wait");
    app.database.execute("UPDATE revocation_feed SET seq = 0").await;
    app.database.execute("DELETE FROM revocations").await;
    assert_eq!(read(&client, &format!("after=1&feed={feed}")).await.status, 410, "a restored backup");
    assert_eq!(read(&client, &format!("feed={feed}")).await.status, 200);
}

/// A backup is restored while a replica runs, and another sign-out gets a number that a reader has read.
#[tokio::test]
async fn a_feed_that_lost_rows_gets_a_new_id() {
    let (app, client) = start().await;
    let (ann, bob, eve) = (app.user().await, app.user().await, app.user().await);
    app.sign_out(&ann.refresh).await;
    app.sign_out(&bob.refresh).await;
    let page = read(&client, "after=0").await;
    let (feed, next) = (page.string("feed").to_owned(), page.json["next"].clone());
    // The service has read both rows.
    sleep(Duration::from_secs(1)).await;
    let mut restore = app.database.begin("DELETE FROM revocations WHERE seq = 2").await;
    restore.execute("UPDATE revocation_feed SET seq = 1").await;
    restore.commit().await;
    app.sign_out(&eve.refresh).await;
    let path = format!("after={next}&feed={feed}");
    eventually(410, async || read(&client, &path).await.status).await;
    let again = read(&client, "after=0").await;
    assert_ne!(again.string("feed"), feed);
    assert_eq!(values(&again), [("sid".to_owned(), ann.sid()), ("sid".to_owned(), eve.sid())]);
    let unchanged = again.string("feed").to_owned();
    app.sign_out(&app.user().await.refresh).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(read(&client, "after=0").await.string("feed"), unchanged, "the id changes once");
}

#[tokio::test]
async fn invalid_queries_name_the_parameter() {
    let (_app, client) = start().await;
    for (query, pointer) in [
        ("after=-1", "/after"),
        ("after=", "/after"),
        ("after=9223372036854775808", "/after"),
        ("after=1.0", "/after"),
        ("after=%2B1", "/after"),
        ("after=x", "/after"),
        ("wait=31", "/wait"),
        ("wait=-1", "/wait"),
        ("wait=", "/wait"),
        ("wait=0.5", "/wait"),
        ("limit=1", ""),
        ("after=0&after=0", "/after"),
    ] {
        let reply = read(&client, query).await;
        assert_eq!((reply.status, reply.pointers()), (400, vec![pointer]), "{query}");
    }
}

#[tokio::test]
async fn only_clients_read_the_feed() {
    let (app, client) = start().await;
    let ann = app.superuser().await;
    let of_client = client.actor.form("/oauth/token", &[("grant_type", "client_credentials")]).await;
    let of_client = app.bearer(of_client.string("access_token"));
    for actor in [&app.anon(), &ann.actor, &of_client, &app.basic(&client.id, "x"), &app.basic("x", &client.secret)] {
        let reply = actor.get("/auth/revocations").await;
        assert_eq!((reply.status, reply.code()), (401, "invalid-credentials"));
    }
    assert_eq!(client.actor.get("/auth/users/me").await.code(), "token-missing", "Basic is not Bearer");
}

#[tokio::test]
async fn a_waiting_client_gets_a_sign_out_from_any_replica() {
    let (app, client) = start().await;
    let replica = app.replica(&[("REVOCATION__POLL_INTERVAL", "50ms")]).await;
    let (ann, bob) = (app.user().await, app.user().await);
    for (after, session) in [(0, &ann), (1, &bob)] {
        let path = format!("/auth/revocations?after={after}&wait=30");
        let there = replica.basic(&client.id, &client.secret);
        let begun = Instant::now();
        let sign_out = async {
            sleep(Duration::from_millis(300)).await;
            app.sign_out(&session.refresh).await
        };
        let (here, there, _) = tokio::join!(client.actor.get(&path), there.get(&path), sign_out);
        for reply in [here, there] {
            assert_eq!(values(&reply), [("sid".to_owned(), session.sid())]);
        }
        assert!(begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < Duration::from_secs(20));
    }
    let begun = Instant::now();
    let reply = read(&client, "after=2&wait=1").await;
    assert_eq!((values(&reply), &reply.json["next"]), (vec![], &json!(2)));
    assert!(begun.elapsed() >= Duration::from_secs(1), "it waits");
}

/// Two thousand clients wait, and half of them disconnect. Each of the others gets the revocation.
#[tokio::test]
async fn a_thousand_waiting_clients_get_a_revocation_after_others_disconnected() {
    // This client needs long to send so many requests when the machine has other work.
    let app = TestApp::with(&[("SERVER__REQUEST_TIMEOUT", "2m")]).await;
    let client = app.client("", &[]).await;
    let ann = app.user().await;
    let path = "/auth/revocations?wait=30";
    let waiting = join_all((0..1000).map(|_| client.actor.get(path)));
    let gone = join_all((0..1000).map(|_| tokio::time::timeout(Duration::from_millis(700), client.actor.get(path))));
    let sign_out = async {
        sleep(Duration::from_secs(3)).await;
        assert_eq!(app.anon().get("/readyz").await.status, 200, "other requests are answered meanwhile");
        app.sign_out(&ann.refresh).await
    };
    let (replies, gone, ended) = tokio::join!(waiting, gone, sign_out);
    assert_eq!(ended.status, 204);
    assert!(gone.iter().all(Result::is_err), "they disconnected before the sign-out");
    let told = replies.iter().filter(|reply| reply.status == 200 && values(reply).len() == 1).count();
    println!("waiting clients: {told} of {} got the revocation, {} had disconnected", replies.len(), gone.len());
    assert_eq!(told, 1000);
    eventually(200, async || app.readiness().await).await;
}

#[tokio::test]
async fn a_waiting_client_is_answered_when_the_service_stops() {
    let (mut app, client) = start().await;
    let begun = Instant::now();
    let stop = async {
        sleep(Duration::from_millis(300)).await;
        app.service.begin_stop();
    };
    let (reply, ()) = tokio::join!(read(&client, "wait=30"), stop);
    assert_eq!((reply.status, values(&reply)), (200, vec![]));
    assert!(begun.elapsed() < Duration::from_secs(10));
}
