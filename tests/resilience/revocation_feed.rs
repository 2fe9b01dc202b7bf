//! The revocation feed: sessions that end on one replica are refused by the others, also after faults of the database.

use crate::support::{SignedIn, TestApp, TestDatabase, app::Replica, eventually, token::take_apart};
use futures_util::future::join_all;
use signet::{
    domain::{Password, SessionId, Timestamp, TokenId, UserId},
    storage::SignOutScope,
};
use std::time::Duration;
use tokio::time::sleep;

/// The id of a session, as a value in SQL.
fn sid_in_sql(database: &TestDatabase, session: &SignedIn) -> String {
    let sid = SessionId::parse(&session.sid()).unwrap();
    if database.is_sqlite() { format!("x'{sid}'") } else { format!("'{sid}'") }
}

#[tokio::test]
async fn a_session_that_one_replica_ends_is_refused_by_another_within_a_second() {
    let app = TestApp::start().await;
    let replica = app.replica(&[]).await;
    let mut times = Vec::new();
    for _ in 0..5 {
        let (ann, bob) = (app.user().await, app.user().await);
        assert_eq!((replica.verify(&ann.access).await, replica.verify(&bob.access).await), (200, 200));
        assert_eq!(app.sign_out(&ann.refresh).await.status, 204);
        assert_eq!(app.verify(&ann.access).await, 401, "this replica refuses it at once");
        assert_eq!(
            replica.bearer(&ann.access).get("/auth/users/me").await.status,
            401,
            "a request that reads the user is refused at once"
        );
        times.push(eventually(401, async || replica.verify(&ann.access).await).await);
        assert_eq!(replica.verify(&bob.access).await, 200, "another user is not affected");
    }
    times.sort();
    println!("the other replica refused after {times:?}");
    // The median: other tests may keep this machine busy.
    assert!(times[2] < Duration::from_secs(1), "{times:?}");
}

#[tokio::test]
async fn sessions_that_the_operator_ends_are_refused() {
    let app = TestApp::start().await;
    let (user_admin, now) = (app.user_admin().await, Timestamp(app.now()));
    let users = [app.user().await, app.user().await, app.user().await, app.user().await];
    let [deactivated, deleted, reset, signed_out] = &users;
    user_admin.set_active(UserId(deactivated.id), false, &now.into()).await.unwrap();
    user_admin.delete(UserId(deleted.id), &now.into(), |_| Ok(())).await.unwrap();
    user_admin
        .set_password(UserId(reset.id), Password::parse("another horse").unwrap(), &now.into(), |_| Ok(()))
        .await
        .unwrap();
    user_admin
        .sign_out(UserId(signed_out.id), SignOutScope::SessionsAndApiKeys, &now.into(), |_| Ok(()))
        .await
        .unwrap();
    for user in &users {
        eventually(401, async || app.verify(&user.access).await).await;
        assert_eq!(app.refresh(&user.refresh).await.status, 401);
    }
}

#[tokio::test]
async fn a_single_token_is_revoked_by_its_jti() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let other = app.refresh(&ann.refresh).await.string("access_token").to_owned();
    let jti = TokenId::parse(take_apart(&ann.access).claims["jti"].as_str().unwrap()).unwrap();
    app.storage().await.revoke_token(jti, None, &Timestamp(app.now()).into()).await.unwrap();
    eventually(401, async || app.verify(&ann.access).await).await;
    assert_eq!(ann.actor.get("/auth/users/me").await.status, 401);
    assert_eq!(app.verify(&other).await, 200, "another token of the same session is accepted");
}

#[tokio::test]
async fn a_replica_that_starts_later_knows_earlier_revocations() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.sign_out(&ann.refresh).await;
    let replica = app.replica(&[("REVOCATION__POLL_INTERVAL", "1m")]).await;
    if app.database.is_sqlite() {
        assert_eq!(replica.verify(&ann.access).await, 401, "from its first reply on");
    } else {
        eventually(401, async || replica.verify(&ann.access).await).await;
    }
}

/// A replica has read the feed up to commit 4. Then the feed is replaced: its only revocation belongs to a different
/// commit 1, and `history` changes the numbers.
async fn another_history(
    replica: &[(&str, &str)],
    history: impl Fn(&TestDatabase) -> &'static str,
) -> (TestApp, Replica, SignedIn) {
    let app = TestApp::start().await;
    let replica = app.replica(replica).await;
    let eve = app.user().await;
    let mut last = None;
    for _ in 0..4 {
        let user = app.user().await;
        assert_eq!(app.sign_out(&user.refresh).await.status, 204);
        last = Some(user);
    }
    let last = last.unwrap();
    eventually(401, async || replica.verify(&last.access).await).await;
    let value = sid_in_sql(&app.database, &eve);
    // In one commit, so that the replica reads all of it or none.
    let mut transaction = app.database.begin("DELETE FROM revocations").await;
    transaction
        .execute(&format!(
            "INSERT INTO revocations (seq, value, claim, ended_at) VALUES (1, {value}, 'sid', {})",
            app.now()
        ))
        .await;
    transaction.execute(history(&app.database)).await;
    transaction.commit().await;
    (app, replica, eve)
}

/// A failover lost commits.
#[tokio::test]
async fn a_feed_whose_seq_fell_is_read_from_its_start() {
    let (_app, replica, eve) = another_history(&[], |_| "UPDATE revocation_feed SET seq = 1").await;
    eventually(401, async || replica.verify(&eve.access).await).await;
}

/// A backup was restored, and sign-outs followed before the next poll: the feed has at least as many commits as before,
/// but different ones.
#[tokio::test]
async fn a_feed_that_lost_commits_and_gained_others_is_read_from_its_start() {
    let (_app, replica, eve) = another_history(&[], |_| "UPDATE revocations SET seq = 4").await;
    eventually(401, async || replica.verify(&eve.access).await).await;
    let (_app, replica, eve) = another_history(&[], |_| "UPDATE revocation_feed SET seq = 7").await;
    eventually(401, async || replica.verify(&eve.access).await).await;
}

#[tokio::test]
async fn a_commit_that_ends_no_session_takes_no_number() {
    let app = TestApp::start().await;
    let (ann, storage) = (app.user().await, app.storage().await);
    app.sign_out(&ann.refresh).await;
    storage
        .end_sessions::<()>(UserId(ann.id), SignOutScope::Sessions, &Timestamp(app.now()).into(), |_| Ok(()))
        .await
        .unwrap();
    assert_eq!(app.database.value("SELECT CAST(seq AS TEXT) FROM revocation_feed").await, "1");
}

/// After a 204, the replica that sent it refuses the tokens, even if the session had ended earlier on another replica.
#[tokio::test]
async fn a_repeated_sign_out_takes_effect_at_once_on_the_replica_that_answers() {
    let app = TestApp::start().await;
    let replica = app.replica(&[("REVOCATION__POLL_INTERVAL", "1m")]).await;
    let ann = app.user().await;
    app.sign_out(&ann.refresh).await;
    assert_eq!(replica.verify(&ann.access).await, 200, "this replica has not read the feed yet");
    let again = serde_json::json!({ "refresh_token": ann.refresh });
    assert_eq!(replica.anon().post("/auth/signout", &again).await.status, 204);
    assert_eq!(replica.verify(&ann.access).await, 401);
}

/// The database was recreated or replaced by another.
#[tokio::test]
async fn a_feed_with_another_id_is_read_from_its_start() {
    let (_app, replica, eve) = another_history(&[], |database| {
        if database.is_sqlite() {
            "UPDATE revocation_feed SET seq = 9, feed_id = randomblob(16)"
        } else {
            "UPDATE revocation_feed SET seq = 9, feed_id = gen_random_uuid()"
        }
    })
    .await;
    eventually(401, async || replica.verify(&eve.access).await).await;
}

/// A failover lost commits, and new ones followed before the next poll: the number did not fall, so only the new
/// connection reveals the loss.
#[tokio::test]
async fn on_a_new_connection_the_feed_is_read_from_its_start() {
    // The interval is so long that the connection is replaced before a poll fails.
    let poll = [("REVOCATION__POLL_INTERVAL", "2s")];
    let (mut app, replica, eve) = another_history(&poll, |_| "UPDATE revocation_feed SET seq = 9").await;
    if app.database.is_sqlite() {
        // SQLite has no server that could fail over.
        return;
    }
    app.database.interrupt().await;
    // The service finds its connections broken when it next uses them.
    assert_eq!(app.anon().get("/readyz").await.status, 503);
    app.database.restore().await;
    eventually(401, async || replica.verify(&eve.access).await).await;
}

#[tokio::test]
async fn a_known_revocation_stays_in_force_when_the_database_loses_it() {
    let app = TestApp::with(&[("REVOCATION__POLL_INTERVAL", "20ms")]).await;
    let (ann, bob) = (app.user().await, app.user().await);
    assert_eq!(app.sign_out(&ann.refresh).await.status, 204);
    let mut transaction = app.database.begin("DELETE FROM revocations").await;
    transaction.execute("UPDATE revocation_feed SET seq = 0").await;
    transaction.commit().await;
    let replica = app.replica(&[]).await;
    assert_eq!(app.sign_out(&bob.refresh).await.status, 204);
    eventually(401, async || replica.verify(&bob.access).await).await;
    assert_eq!(app.verify(&ann.access).await, 401, "a replica that answered 200 keeps refusing");
}

#[tokio::test]
async fn a_feed_that_cannot_be_read_within_max_staleness_is_503() {
    let app = TestApp::with(&[("REVOCATION__MAX_STALENESS", "1s"), ("REVOCATION__POLL_INTERVAL", "50ms")]).await;
    let unlimited = app.replica(&[("REVOCATION__MAX_STALENESS", "never"), ("REVOCATION__POLL_INTERVAL", "50ms")]).await;
    let (ann, bob) = (app.user().await, app.user().await);
    app.sign_out(&bob.refresh).await;
    eventually(401, async || unlimited.verify(&bob.access).await).await;
    app.database.execute("ALTER TABLE revocation_feed RENAME TO elsewhere").await;
    eventually(503, async || app.verify(&ann.access).await).await;
    assert_eq!(ann.actor.get("/auth/verify").await.code(), "revocations-stale");
    assert_eq!(ann.actor.get("/auth/users/me").await.code(), "revocations-stale");
    assert_eq!(app.verify(&bob.access).await, 401, "a known revocation stays in force");
    assert_eq!(app.bearer("nonsense").get("/auth/verify").await.status, 401);
    let ready = app.anon().get("/readyz").await;
    assert_eq!((ready.status, &ready.json["checks"]["revocations"]), (503, &"stale".into()));
    assert_eq!(app.refresh(&ann.refresh).await.status, 200, "a refresh queries the database itself");
    assert_eq!(
        (unlimited.verify(&ann.access).await, unlimited.verify(&bob.access).await),
        (200, 401),
        "`never` is no limit"
    );
    app.database.execute("ALTER TABLE elsewhere RENAME TO revocation_feed").await;
    eventually(200, async || app.verify(&ann.access).await).await;
    eventually(200, async || {
        app.sync_clock();
        app.anon().get("/readyz").await.status
    })
    .await;
}

#[tokio::test]
async fn no_token_is_accepted_before_the_feed_has_been_read() {
    let mut app = TestApp::start().await;
    if app.database.is_sqlite() {
        // On SQLite the service reads the feed before it starts.
        return;
    }
    let (ann, bob) = (app.user().await, app.user().await);
    app.sign_out(&bob.refresh).await;
    app.database.interrupt().await;
    let never = [("REVOCATION__MAX_STALENESS", "never")];
    let replica = app.replica(&never).await;
    assert_eq!((replica.verify(&ann.access).await, replica.verify(&bob.access).await), (503, 503));
    assert_eq!(replica.anon().get("/livez").await.status, 200);
    app.database.restore().await;
    eventually(200, async || replica.verify(&ann.access).await).await;
    assert_eq!(replica.verify(&bob.access).await, 401);
}

#[tokio::test]
async fn concurrent_sign_outs_get_consecutive_numbers() {
    let app = TestApp::with(&[("SERVER__WORKERS", "2"), ("DATABASE__ACQUIRE_TIMEOUT", "10s")]).await;
    let mut users = Vec::new();
    for _ in 0..24 {
        users.push(app.user().await);
    }
    let replies = join_all(users.iter().map(|user| app.sign_out(&user.refresh))).await;
    assert!(replies.iter().all(|reply| reply.status == 204), "{replies:?}");
    for user in &users {
        assert_eq!(app.sign_out(&user.refresh).await.status, 204, "a repeated sign-out takes no number");
    }
    let numbers =
        "SELECT COUNT(*) || ' rows, ' || COUNT(DISTINCT seq) || ' numbers up to ' || MAX(seq) FROM revocations";
    assert_eq!(app.database.value(numbers).await, "24 rows, 24 numbers up to 24");
    assert_eq!(app.database.value("SELECT CAST(seq AS TEXT) FROM revocation_feed").await, "24");
}

/// A transaction takes its number before it commits. If a second transaction could take the next number and commit first,
/// a follower would read the second and never the first.
#[tokio::test]
async fn a_follower_misses_neither_of_two_concurrent_revocations() {
    let app = TestApp::with(&[("DATABASE__ACQUIRE_TIMEOUT", "10s")]).await;
    let replica = app.replica(&[("REVOCATION__POLL_INTERVAL", "20ms")]).await;
    let (slow, quick) = (app.user().await, app.user().await);
    let value = sid_in_sql(&app.database, &slow);
    // The slow transaction has its number and has not committed.
    let mut slow_end = app.database.begin("UPDATE revocation_feed SET seq = seq + 1").await;
    slow_end
        .execute(&format!("INSERT INTO revocations SELECT seq, {value}, 'sid', {} FROM revocation_feed", app.now()))
        .await;
    let quick_end = app.sign_out(&quick.refresh);
    tokio::pin!(quick_end);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut quick_end).await.is_err(), "the quick one waits");
    assert_eq!(replica.verify(&quick.access).await, 200);
    slow_end.commit().await;
    assert_eq!(quick_end.await.status, 204);
    for user in [&slow, &quick] {
        eventually(401, async || replica.verify(&user.access).await).await;
    }
}

#[tokio::test]
async fn sessions_that_end_in_one_commit_share_one_number() {
    let app = TestApp::start().await;
    let replica = app.replica(&[]).await;
    let first = app.user().await;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(app.sign_in(&first.email).await);
    }
    assert_eq!(first.actor.post("/auth/signout-all", &serde_json::json!({})).await.status, 204);
    assert_eq!(app.database.value("SELECT COUNT(*) || ' ' || COUNT(DISTINCT seq) FROM revocations").await, "21 1");
    for session in &sessions {
        assert_eq!(app.verify(&session.access).await, 401);
        eventually(401, async || replica.verify(&session.access).await).await;
    }
}

#[tokio::test]
async fn a_revocation_is_never_dated_before_the_last_use_of_the_session() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.user().await, app.user().await);
    let begun = app.now();
    let ended = async || {
        let ended = "SELECT CAST(ended_at AS TEXT) FROM revocations ORDER BY seq DESC LIMIT 1";
        app.database.value(ended).await.parse::<i64>().unwrap()
    };
    app.advance(3600);
    app.sign_out(&ann.refresh).await;
    assert_eq!(ended().await, begun + 3600);
    app.advance(-2 * 3600);
    app.sign_out(&bob.refresh).await;
    assert_eq!(ended().await, begun + 60, "the clock is slow, so the last use counts, which is exact to a minute");
}

#[tokio::test]
async fn a_password_reset_by_a_clock_that_is_ahead_ends_every_session() {
    let app = TestApp::with(&[("JWT__REFRESH_TOKEN_LIFETIME", "1h")]).await;
    let (ann, user_admin) = (app.user().await, app.user_admin().await);
    let ahead = Timestamp(app.now() + 7200).into();
    user_admin
        .set_password(UserId(ann.id), Password::parse("another horse").unwrap(), &ahead, |_| Ok(()))
        .await
        .unwrap();
    assert_eq!(app.refresh(&ann.refresh).await.status, 401);
    eventually(401, async || app.verify(&ann.access).await).await;
}

#[tokio::test]
async fn a_session_that_a_replica_with_a_slow_clock_ended_stays_ended() {
    let app = TestApp::start().await;
    let replica = app.replica(&[]).await;
    let ann = app.user().await;
    app.advance(-2 * 3600);
    assert_eq!(app.sign_out(&ann.refresh).await.status, 204);
    app.advance(2 * 3600);
    assert_eq!(app.verify(&ann.access).await, 401);
    eventually(401, async || replica.verify(&ann.access).await).await;
    assert_eq!(app.refresh(&ann.refresh).await.status, 401);
}

/// A failover loses the last commit, which another service has seen, before any follower has read it. Another sign-out gets
/// its number.
#[tokio::test]
async fn a_lost_revocation_that_only_a_service_has_seen_resets_the_feed() {
    let app = TestApp::with(&[("REVOCATION__POLL_INTERVAL", "2s")]).await;
    if app.database.is_sqlite() {
        // Its connections do not change.
        return;
    }
    let client = app.client("", &[]).await;
    let (ann, bob, eve) = (app.user().await, app.user().await, app.user().await);
    app.sign_out(&ann.refresh).await;
    sleep(Duration::from_secs(3)).await;
    app.sign_out(&bob.refresh).await;
    let page = client.actor.get("/auth/revocations").await;
    let path = format!("/auth/revocations?after={}&feed={}", page.json["next"], page.string("feed"));
    let mut failover = app.database.begin("DELETE FROM revocations WHERE seq = 2").await;
    failover.execute("UPDATE revocation_feed SET seq = 1").await;
    failover.commit().await;
    app.database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").await;
    eventually(204, async || app.sign_out(&eve.refresh).await.status).await;
    eventually(410, async || client.actor.get(&path).await.status).await;
    let again = client.actor.get("/auth/revocations").await;
    let seen: Vec<&str> =
        again.json["revocations"].as_array().unwrap().iter().map(|row| row["value"].as_str().unwrap()).collect();
    assert_eq!(seen, [ann.sid(), eve.sid()]);
}
