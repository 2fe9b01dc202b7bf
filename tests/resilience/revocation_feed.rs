//! The feed of revocations: what one replica ends, the others refuse, whatever happens to the database.

use crate::support::{
    TestApp, TestDatabase,
    app::{Replica, SignedIn, settings},
    eventually,
    token::take_apart,
};
use futures_util::future::join_all;
use signet::{
    auth::UserAdmin,
    domain::{Password, PasswordHash, SessionId, Timestamp, TokenId, UserId},
};
use std::{sync::Arc, time::Duration};

fn sid(user: &SignedIn) -> SessionId {
    SessionId::parse(take_apart(&user.access).claims["sid"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn what_one_replica_ends_the_other_refuses_within_a_second() {
    let app = TestApp::start().await;
    let replica = app.replica(&[]).await;
    let mut times = Vec::new();
    for _ in 0..5 {
        let (ann, bob) = (app.user().await, app.user().await);
        assert_eq!((replica.verify(&ann.access).await, replica.verify(&bob.access).await), (204, 204));
        assert_eq!(app.sign_out(&ann.refresh).await.status, 204);
        assert_eq!(app.verify(&ann.access).await, 401, "here at once");
        assert_eq!(replica.bearer(&ann.access).get("/auth/users/me").await.status, 401, "who reads the user at once");
        times.push(eventually(401, async || replica.verify(&ann.access).await).await);
        assert_eq!(replica.verify(&bob.access).await, 204, "nobody else");
    }
    times.sort();
    println!("the other replica refused after {times:?}");
    // Not each: this machine may be busy with other tests.
    assert!(times[2] < Duration::from_secs(1), "{times:?}");
}

#[tokio::test]
async fn what_the_operator_ends_every_replica_refuses() {
    let app = TestApp::start().await;
    let (storage, now) = (app.storage().await, Timestamp(app.now()));
    let config = settings(&app.database, &[]);
    let passwords = signet::app::start_passwords(&config.passwords, signet::telemetry::HashWaits::default());
    let user_admin = UserAdmin::new(storage.clone(), Arc::new(passwords.unwrap()), config.passwords.rules());
    let users = [app.user().await, app.user().await, app.user().await, app.user().await];
    let [shut_out, deleted, reset, signed_out] = &users;
    user_admin.deactivate(UserId(shut_out.id), now).await.unwrap().unwrap();
    assert!(user_admin.delete(UserId(deleted.id), now).await.unwrap());
    user_admin.set_password(UserId(reset.id), Password::parse("another horse").unwrap(), now).await.unwrap().unwrap();
    user_admin.sign_out(UserId(signed_out.id), now).await.unwrap();
    for user in &users {
        eventually(401, async || app.verify(&user.access).await).await;
        assert_eq!(app.refresh(&user.refresh).await.status, 401);
    }
}

#[tokio::test]
async fn a_single_token_is_taken_back_by_its_jti() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let other = app.refresh(&ann.refresh).await.json["access_token"].as_str().unwrap().to_owned();
    let jti = TokenId::parse(take_apart(&ann.access).claims["jti"].as_str().unwrap()).unwrap();
    app.storage().await.revoke_token(jti, Timestamp(app.now())).await.unwrap();
    eventually(401, async || app.verify(&ann.access).await).await;
    assert_eq!(ann.actor.get("/auth/users/me").await.status, 401);
    assert_eq!(app.verify(&other).await, 204, "another of the same session is good");
}

#[tokio::test]
async fn a_replica_that_starts_later_knows_what_has_ended() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.sign_out(&ann.refresh).await;
    let replica = app.replica(&[("REVOCATION__POLL_INTERVAL", "1m")]).await;
    if app.database.is_sqlite() {
        assert_eq!(replica.verify(&ann.access).await, 401, "from its first answer on");
    } else {
        eventually(401, async || replica.verify(&ann.access).await).await;
    }
}

/// How the database of a feed that was followed up to the fourth commit comes back: with this history, in which the
/// first commit is another one.
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
    let value = if app.database.is_sqlite() { format!("x'{}'", sid(&eve)) } else { format!("'{}'", sid(&eve)) };
    // In one commit, so that nobody reads half of it.
    let mut beside = app.database.begin("DELETE FROM revocations").await;
    beside
        .execute(&format!(
            "INSERT INTO revocations (seq, value, claim, ended_at) VALUES (1, {value}, 'sid', {})",
            app.now()
        ))
        .await;
    beside.execute(history(&app.database)).await;
    beside.commit().await;
    (app, replica, eve)
}

/// A failover lost commits.
#[tokio::test]
async fn a_feed_whose_seq_fell_is_read_anew() {
    let (_app, replica, eve) = another_history(&[], |_| "UPDATE revocation_feed SET seq = 1").await;
    eventually(401, async || replica.verify(&eve.access).await).await;
}

/// A backup was restored, and somebody ended something before the next look: as many commits as before, but others.
#[tokio::test]
async fn a_feed_that_lost_a_commit_and_counted_on_is_read_anew() {
    let (_app, replica, eve) = another_history(&[], |_| "UPDATE revocations SET seq = 4").await;
    eventually(401, async || replica.verify(&eve.access).await).await;
    let (_app, replica, eve) = another_history(&[], |_| "UPDATE revocation_feed SET seq = 7").await;
    eventually(401, async || replica.verify(&eve.access).await).await;
}

#[tokio::test]
async fn a_number_is_not_spent_where_nothing_ended() {
    let app = TestApp::start().await;
    let (ann, storage) = (app.user().await, app.storage().await);
    app.sign_out(&ann.refresh).await;
    storage.end_sessions(UserId(ann.id), Timestamp(app.now())).await.unwrap();
    assert_eq!(app.database.value("SELECT CAST(seq AS TEXT) FROM revocation_feed").await, "1");
}

/// Whoever is told that a session has ended may rely on it where they were told so.
#[tokio::test]
async fn a_sign_out_that_another_replica_was_told_before_holds_here_at_once() {
    let app = TestApp::start().await;
    let replica = app.replica(&[("REVOCATION__POLL_INTERVAL", "1m")]).await;
    let ann = app.user().await;
    app.sign_out(&ann.refresh).await;
    assert_eq!(replica.verify(&ann.access).await, 204, "it has not heard of it");
    let again = serde_json::json!({ "refresh_token": ann.refresh });
    assert_eq!(replica.anon().post("/auth/signout", &again).await.status, 204);
    assert_eq!(replica.verify(&ann.access).await, 401);
}

/// A database was made anew, or another one was put in its place.
#[tokio::test]
async fn another_feed_is_read_from_its_beginning() {
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

/// A failover lost commits, and others were made before we saw it again: nothing fell, nothing tells but the connection.
#[tokio::test]
async fn on_another_connection_the_feed_is_read_anew() {
    // So long that the connection is found dead and replaced without a poll that fails.
    let poll = [("REVOCATION__POLL_INTERVAL", "2s")];
    let (mut app, replica, eve) = another_history(&poll, |_| "UPDATE revocation_feed SET seq = 9").await;
    if app.database.is_sqlite() {
        // There is no other server behind a file.
        return;
    }
    app.database.take_away().await;
    // One connection after the other breaks as it is used next.
    assert_eq!(app.anon().get("/readyz").await.status, 503);
    app.database.bring_back().await;
    eventually(401, async || replica.verify(&eve.access).await).await;
}

#[tokio::test]
async fn what_is_known_to_have_ended_stays_so_whatever_the_database_has_forgotten() {
    let app = TestApp::with(&[("REVOCATION__POLL_INTERVAL", "20ms")]).await;
    let (ann, bob) = (app.user().await, app.user().await);
    assert_eq!(app.sign_out(&ann.refresh).await.status, 204);
    let mut beside = app.database.begin("DELETE FROM revocations").await;
    beside.execute("UPDATE revocation_feed SET seq = 0").await;
    beside.commit().await;
    let replica = app.replica(&[]).await;
    assert_eq!(app.sign_out(&bob.refresh).await.status, 204);
    eventually(401, async || replica.verify(&bob.access).await).await;
    assert_eq!(app.verify(&ann.access).await, 401, "who was told so may rely on it");
}

#[tokio::test]
async fn a_feed_that_cannot_be_read_for_too_long_is_503_rather_than_trust() {
    let app = TestApp::with(&[("REVOCATION__MAX_STALENESS", "1s"), ("REVOCATION__POLL_INTERVAL", "50ms")]).await;
    let trusting = app.replica(&[("REVOCATION__MAX_STALENESS", "never"), ("REVOCATION__POLL_INTERVAL", "50ms")]).await;
    let (ann, bob) = (app.user().await, app.user().await);
    app.sign_out(&bob.refresh).await;
    eventually(401, async || trusting.verify(&bob.access).await).await;
    app.database.execute("ALTER TABLE revocation_feed RENAME TO elsewhere").await;
    eventually(503, async || app.verify(&ann.access).await).await;
    assert_eq!(ann.actor.get("/auth/verify").await.code(), "revocations-stale");
    assert_eq!(ann.actor.get("/auth/users/me").await.code(), "revocations-stale");
    assert_eq!(app.verify(&bob.access).await, 401, "what is known to have ended is refused as ever");
    assert_eq!(app.bearer("nonsense").get("/auth/verify").await.status, 401);
    let ready = app.anon().get("/readyz").await;
    assert_eq!((ready.status, &ready.json["checks"]["revocations"]), (503, &"stale".into()));
    assert_eq!(app.refresh(&ann.refresh).await.status, 200, "a refresh asks the database itself");
    assert_eq!((trusting.verify(&ann.access).await, trusting.verify(&bob.access).await), (204, 401), "`never`");
    app.database.execute("ALTER TABLE elsewhere RENAME TO revocation_feed").await;
    eventually(204, async || app.verify(&ann.access).await).await;
    eventually(200, async || {
        app.catch_up();
        app.anon().get("/readyz").await.status
    })
    .await;
}

#[tokio::test]
async fn no_token_is_trusted_before_the_feed_was_read() {
    let mut app = TestApp::start().await;
    if app.database.is_sqlite() {
        // It starts with the feed read, or not at all.
        return;
    }
    let (ann, bob) = (app.user().await, app.user().await);
    app.sign_out(&bob.refresh).await;
    app.database.take_away().await;
    let never = [("REVOCATION__MAX_STALENESS", "never")];
    let replica = app.replica(&never).await;
    assert_eq!((replica.verify(&ann.access).await, replica.verify(&bob.access).await), (503, 503));
    assert_eq!(replica.anon().get("/livez").await.status, 200);
    app.database.bring_back().await;
    eventually(204, async || replica.verify(&ann.access).await).await;
    assert_eq!(replica.verify(&bob.access).await, 401);
}

#[tokio::test]
async fn commits_are_numbered_one_by_one_in_their_order() {
    let app = TestApp::with(&[("SERVER__WORKERS", "2"), ("DATABASE__ACQUIRE_TIMEOUT", "10s")]).await;
    let mut users = Vec::new();
    for _ in 0..24 {
        users.push(app.user().await);
    }
    let replies = join_all(users.iter().map(|user| app.sign_out(&user.refresh))).await;
    assert!(replies.iter().all(|reply| reply.status == 204), "{replies:?}");
    for user in &users {
        assert_eq!(app.sign_out(&user.refresh).await.status, 204, "again, which is no news");
    }
    let numbers =
        "SELECT COUNT(*) || ' rows, ' || COUNT(DISTINCT seq) || ' numbers up to ' || MAX(seq) FROM revocations";
    assert_eq!(app.database.value(numbers).await, "24 rows, 24 numbers up to 24");
    assert_eq!(app.database.value("SELECT CAST(seq AS TEXT) FROM revocation_feed").await, "24");
}

/// Who ends something takes a number and commits later. If the next one could take its number and commit meanwhile, a
/// follower would go past the first, and never look back.
#[tokio::test]
async fn a_follower_misses_nothing_of_two_that_end_something_at_once() {
    let app = TestApp::with(&[("DATABASE__ACQUIRE_TIMEOUT", "10s")]).await;
    let replica = app.replica(&[("REVOCATION__POLL_INTERVAL", "20ms")]).await;
    let (slow, quick) = (app.user().await, app.user().await);
    let value = if app.database.is_sqlite() { format!("x'{}'", sid(&slow)) } else { format!("'{}'", sid(&slow)) };
    // The slow one has its number and has not committed.
    let mut ending_slowly = app.database.begin("UPDATE revocation_feed SET seq = seq + 1").await;
    ending_slowly
        .execute(&format!("INSERT INTO revocations SELECT seq, {value}, 'sid', {} FROM revocation_feed", app.now()))
        .await;
    let ending = app.sign_out(&quick.refresh);
    tokio::pin!(ending);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut ending).await.is_err(), "the quick one waits");
    assert_eq!(replica.verify(&quick.access).await, 204);
    ending_slowly.commit().await;
    assert_eq!(ending.await.status, 204);
    for user in [&slow, &quick] {
        eventually(401, async || replica.verify(&user.access).await).await;
    }
}

#[tokio::test]
async fn everything_that_one_commit_ends_has_one_number() {
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
async fn a_session_ends_now_or_when_it_was_used_last() {
    let app = TestApp::start().await;
    let (ann, bob) = (app.user().await, app.user().await);
    let begun = app.now();
    let ended = async || {
        let ended = "SELECT CAST(ended_at AS TEXT) FROM revocations ORDER BY seq DESC LIMIT 1";
        app.database.value(ended).await.parse::<i64>().unwrap()
    };
    app.pass(3600);
    app.sign_out(&ann.refresh).await;
    assert_eq!(ended().await, begun + 3600);
    app.pass(-2 * 3600);
    app.sign_out(&bob.refresh).await;
    assert_eq!(ended().await, begun + 60, "by a clock that has fallen back: its last use, which is exact to a minute");
}

#[tokio::test]
async fn a_clock_that_is_ahead_leaves_no_session_out() {
    let app = TestApp::with(&[("JWT__REFRESH_TOKEN_LIFETIME", "1h")]).await;
    let (ann, storage) = (app.user().await, app.storage().await);
    storage
        .set_password(UserId(ann.id), &PasswordHash::new("x".to_owned()), Timestamp(app.now() + 7200))
        .await
        .unwrap();
    assert_eq!(app.refresh(&ann.refresh).await.status, 401);
    eventually(401, async || app.verify(&ann.access).await).await;
}

#[tokio::test]
async fn what_a_clock_that_fell_back_has_ended_does_not_come_back_with_it() {
    let app = TestApp::start().await;
    let replica = app.replica(&[]).await;
    let ann = app.user().await;
    app.pass(-2 * 3600);
    assert_eq!(app.sign_out(&ann.refresh).await.status, 204);
    app.pass(2 * 3600);
    assert_eq!(app.verify(&ann.access).await, 401);
    eventually(401, async || replica.verify(&ann.access).await).await;
    assert_eq!(app.refresh(&ann.refresh).await.status, 401);
}
