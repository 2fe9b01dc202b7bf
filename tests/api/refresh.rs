//! `POST /auth/refresh-access`, with `jwt.rotate_refresh_tokens` and without

use crate::support::{Reply, TestApp, TestDatabase, all, token::take_apart};
use futures_util::future::join_all;
use serde_json::{Value, json};

#[tokio::test]
async fn a_refresh_answers_an_access_token_and_nothing_else_of_a_token() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.pass(10);
    let reply = app.refresh(&ann.refresh).await;
    assert_eq!(reply.status, 200);
    let members: Vec<&str> = reply.json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["access_token", "expires_in", "token_type"]);
    assert_eq!((&reply.json["token_type"], &reply.json["expires_in"]), (&json!("Bearer"), &json!(300)));
    let (old, new) = (take_apart(&ann.access).claims, take_apart(reply.json["access_token"].as_str().unwrap()).claims);
    assert_eq!((&new["sub"], &new["sid"]), (&old["sub"], &old["sid"]));
    assert_ne!(new["jti"], old["jti"]);
    assert_eq!((new["iat"].as_i64(), new["exp"].as_i64()), (Some(app.now()), Some(app.now() + 300)));
    assert_eq!(app.refresh(&ann.refresh).await.status, 200, "without rotation it is good again");
}

#[tokio::test]
async fn a_refresh_knows_roles_and_names_as_they_are_now() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.database.execute(&format!("UPDATE users SET is_staff = TRUE, is_superuser = TRUE, username = 'ann', username_key = 'ann' WHERE id = {}", ann.id)).await;
    let reply = app.refresh(&ann.refresh).await;
    let claims = take_apart(reply.json["access_token"].as_str().unwrap()).claims;
    assert_eq!((&claims["roles"], &claims["preferred_username"]), (&json!(["staff", "superuser"]), &json!("ann")));
}

#[tokio::test]
async fn an_inactive_user_neither_refreshes_nor_uses_a_token() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.database.execute(&format!("UPDATE users SET is_active = FALSE WHERE id = {}", ann.id)).await;
    let reply = app.refresh(&ann.refresh).await;
    assert_eq!((reply.status, reply.code()), (401, "invalid-token"));
    let reply = ann.actor.get("/auth/users/me").await;
    assert_eq!((reply.status, reply.code()), (401, "invalid-token"));
}

#[tokio::test]
async fn a_deleted_user_neither_refreshes_nor_uses_a_token() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.database.execute(&format!("DELETE FROM users WHERE id = {}", ann.id)).await;
    let reply = app.refresh(&ann.refresh).await;
    assert_eq!((reply.status, reply.code()), (401, "invalid-token"));
    let reply = ann.actor.get("/auth/users/me").await;
    assert_eq!((reply.status, reply.code()), (401, "invalid-token"));
    // Who comes next does not inherit the id, and with it the tokens that are out.
    assert_ne!(app.user().await.id, ann.id);
}

#[tokio::test]
async fn a_refresh_token_ends_with_its_lifetime() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.pass(86_399);
    assert_eq!(app.refresh(&ann.refresh).await.status, 200);
    app.pass(1);
    let reply = app.refresh(&ann.refresh).await;
    assert_eq!((reply.status, reply.code()), (401, "invalid-token"));
}

#[tokio::test]
async fn no_access_token_outlives_its_session() {
    let app = TestApp::with(&[("JWT__SESSION_LIFETIME", "1h"), ("JWT__REFRESH_TOKEN_LIFETIME", "1h")]).await;
    let ann = app.user().await;
    app.pass(3600 - 100);
    let reply = app.refresh(&ann.refresh).await;
    assert_eq!(reply.json["expires_in"], 100);
    assert_eq!(take_apart(reply.json["access_token"].as_str().unwrap()).claims["exp"], app.now() + 100);
}

#[tokio::test]
async fn the_last_use_is_noted_at_most_once_a_minute() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let began = app.now();
    let noted = || async {
        app.database.value("SELECT CAST(last_used_at AS TEXT) FROM sessions").await.parse::<i64>().unwrap() - began
    };
    app.pass(59);
    app.refresh(&ann.refresh).await;
    assert_eq!(noted().await, 0);
    app.pass(1);
    app.refresh(&ann.refresh).await;
    assert_eq!(noted().await, 60);
}

#[tokio::test]
async fn a_generation_that_is_not_the_sessions_is_refused() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.database.execute("UPDATE sessions SET generation = 1").await;
    assert_eq!(app.refresh(&ann.refresh).await.code(), "invalid-token");
}

#[tokio::test]
async fn a_body_without_one_refresh_token_is_400() {
    let app = TestApp::start().await;
    let rows = [
        ("", vec![]),
        ("[]", vec![]),
        ("null", vec![]),
        ("\"a\"", vec![]),
        ("{}", vec!["/refresh_token"]),
        (r#"{"refresh_token":null}"#, vec!["/refresh_token"]),
        (r#"{"refresh_token":1}"#, vec!["/refresh_token"]),
        (r#"{"refresh_token":["a"]}"#, vec!["/refresh_token"]),
        (r#"{"refresh_token":{"a":"b"}}"#, vec!["/refresh_token"]),
        (r#"{"refresh_token":"a","refresh_token":"a"}"#, vec!["/refresh_token"]),
        (r#"{"refresh_token":"a","access_token":"b"}"#, vec![""]),
        (r#"{"refresh":"a"}"#, vec!["/refresh_token", ""]),
        (r#"{"refresh_token":"\ud800"}"#, vec![]),
    ];
    let mut replies = Vec::new();
    for path in ["/auth/refresh-access", "/auth/signout"] {
        for (body, pointers) in &rows {
            replies.push((path, *body, pointers, app.anon().post_raw(path, *body).await));
        }
    }
    all(
        "refresh bodies",
        &replies,
        |(path, body, ..)| format!("{path} {body}"),
        |(_, _, pointers, reply)| {
            ((reply.status, reply.code(), &reply.pointers()) != (400, "invalid-request", *pointers))
                .then(|| reply.text.clone())
        },
    );
}

const ROTATION: (&str, &str) = ("JWT__ROTATE_REFRESH_TOKENS", "true");

async fn rotating() -> TestApp {
    TestApp::with(&[ROTATION]).await
}

fn text<'a>(reply: &'a Reply, member: &str) -> &'a str {
    reply.json[member].as_str().unwrap_or_else(|| panic!("no {member}: {reply:?}"))
}

/// The refresh token of a refresh that succeeded.
async fn rotated(app: &TestApp, token: &str) -> String {
    let reply = app.refresh(token).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    text(&reply, "refresh_token").to_owned()
}

async fn refused(app: &TestApp, token: &str) -> String {
    let reply = app.refresh(token).await;
    assert_eq!(reply.status, 401, "{reply:?}");
    reply.code().to_owned()
}

#[tokio::test]
async fn a_refresh_answers_a_new_pair() {
    let app = rotating().await;
    let ann = app.user().await;
    app.pass(10);
    let reply = app.refresh(&ann.refresh).await;
    let members: Vec<&str> = reply.json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["access_token", "expires_in", "refresh_expires_in", "refresh_token", "token_type"]);
    assert_eq!((&reply.json["expires_in"], &reply.json["refresh_expires_in"]), (&json!(300), &json!(86_400)));
    let (old, new) = (take_apart(&ann.refresh).claims, take_apart(text(&reply, "refresh_token")).claims);
    assert_eq!((&new["sid"], &new["gen"], &new["iat"]), (&old["sid"], &json!(1), &json!(app.now())));
    assert_eq!(new["exp"], app.now() + 86_400);
    let access = text(&reply, "access_token");
    assert_eq!(take_apart(access).claims["jti"].as_str().unwrap().len(), 22);
    assert_eq!(app.bearer(access).get("/auth/users/me").await.status, 200);
}

#[tokio::test]
async fn a_retry_within_the_grace_gets_the_same_pair() {
    let app = rotating().await;
    let ann = app.user().await;
    let first = app.refresh(&ann.refresh).await;
    app.pass(29);
    let again = app.refresh(&ann.refresh).await;
    for member in ["access_token", "refresh_token"] {
        assert_eq!(first.json[member], again.json[member], "byte for byte");
    }
    assert_eq!((&again.json["expires_in"], &again.json["refresh_expires_in"]), (&json!(271), &json!(86_371)));
    assert_eq!(app.database.value("SELECT CAST(generation AS TEXT) FROM sessions").await, "1");
}

#[tokio::test]
async fn a_retry_knows_roles_as_they_are_now_and_keeps_everything_else() {
    let app = rotating().await;
    let ann = app.user().await;
    let first = take_apart(text(&app.refresh(&ann.refresh).await, "access_token")).claims;
    app.database.execute(&format!("UPDATE users SET is_staff = TRUE WHERE id = {}", ann.id)).await;
    let again = take_apart(text(&app.refresh(&ann.refresh).await, "access_token")).claims;
    for claim in ["sub", "sid", "jti", "iat", "exp"] {
        assert_eq!(first[claim], again[claim], "{claim}");
    }
    assert_eq!((&first["roles"], &again["roles"]), (&json!([]), &json!(["staff"])));
}

/// Every reply is the one pair, and the session moved on by one.
async fn assert_one_pair(app: &TestApp, replies: &[Reply], generation: i64) -> String {
    let pairs: Vec<[&Value; 2]> =
        replies.iter().map(|reply| [&reply.json["access_token"], &reply.json["refresh_token"]]).collect();
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    assert!(pairs.iter().all(|pair| *pair == pairs[0]), "more than one pair");
    let stored = app.database.value("SELECT CAST(generation AS TEXT) FROM sessions").await;
    assert_eq!(stored, generation.to_string());
    text(&replies[0], "refresh_token").to_owned()
}

#[tokio::test]
async fn sixteen_at_once_get_one_pair() {
    let app = TestApp::with(&[ROTATION, ("SERVER__WORKERS", "2")]).await;
    let mut token = app.user().await.refresh;
    for generation in 1..=5 {
        let replies = join_all((0..16).map(|_| app.refresh(&token))).await;
        token = assert_one_pair(&app, &replies, generation).await;
        app.pass(60);
    }
}

#[tokio::test]
async fn sixteen_at_once_on_two_replicas_get_one_pair() {
    let app = TestApp::with(&[ROTATION, ("DATABASE__ACQUIRE_TIMEOUT", "10s")]).await;
    let replica = app.replica(&[ROTATION, ("DATABASE__ACQUIRE_TIMEOUT", "10s")]).await;
    let mut token = app.user().await.refresh;
    for generation in 1..=5 {
        let here = join_all((0..8).map(|_| app.refresh(&token)));
        let there = join_all((0..8).map(|_| replica.refresh(&token)));
        let (mut replies, there) = tokio::join!(here, there);
        replies.extend(there);
        token = assert_one_pair(&app, &replies, generation).await;
        app.pass(60);
    }
}

#[tokio::test]
async fn a_used_refresh_token_ends_its_session_and_no_other() {
    let app = rotating().await;
    let stolen = app.user().await;
    let other = app.sign_in(&stolen.email).await;
    let reply = app.refresh(&stolen.refresh).await;
    let (access, refresh) = (text(&reply, "access_token"), text(&reply, "refresh_token"));
    app.pass(30);
    assert_eq!(refused(&app, &stolen.refresh).await, "refresh-reused");
    assert_eq!(refused(&app, refresh).await, "invalid-token", "the newest one is dead, too");
    assert_eq!(app.bearer(access).get("/auth/users/me").await.status, 401);
    assert_eq!(refused(&app, &stolen.refresh).await, "invalid-token", "there is no session any more");
    assert_eq!(other.actor.get("/auth/users/me").await.status, 200);
    rotated(&app, &other.refresh).await;
}

#[tokio::test]
async fn a_slow_second_tab_is_told_so_and_nothing_ends() {
    let app = rotating().await;
    let ann = app.user().await;
    let second = rotated(&app, &ann.refresh).await;
    let third = rotated(&app, &second).await;
    app.pass(9);
    assert_eq!(refused(&app, &ann.refresh).await, "refresh-superseded");
    assert_eq!(rotated(&app, &second).await, third, "the one before is a retry");
    let fourth = rotated(&app, &third).await;
    app.pass(10);
    assert_eq!(refused(&app, &second).await, "refresh-reused", "ten seconds later it is a copy");
    assert_eq!(refused(&app, &fourth).await, "invalid-token");
}

#[tokio::test]
async fn without_a_grace_no_token_is_good_twice() {
    let app = TestApp::with(&[ROTATION, ("JWT__REFRESH_GRACE", "0s")]).await;
    let ann = app.user().await;
    rotated(&app, &ann.refresh).await;
    assert_eq!(refused(&app, &ann.refresh).await, "refresh-reused");
}

#[tokio::test]
async fn a_generation_that_was_never_issued_ends_nothing() {
    let app = rotating().await;
    let ann = app.user().await;
    let mut parts = take_apart(&ann.refresh);
    for generation in [1, 2, i64::MAX] {
        parts.claims["gen"] = generation.into();
        let token = parts.sign(crate::support::app::REFRESH_KEY);
        assert_eq!(refused(&app, &token).await, "invalid-token", "{generation}");
    }
    rotated(&app, &ann.refresh).await;
}

#[tokio::test]
async fn a_grace_beyond_the_access_token_answers_a_new_one_with_the_same_refresh_token() {
    let app = TestApp::with(&[ROTATION, ("JWT__REFRESH_GRACE", "1h")]).await;
    let ann = app.user().await;
    let first = app.refresh(&ann.refresh).await;
    app.pass(300);
    let again = app.refresh(&ann.refresh).await;
    assert_eq!(first.json["refresh_token"], again.json["refresh_token"]);
    let (old, new) = (take_apart(text(&first, "access_token")).claims, take_apart(text(&again, "access_token")).claims);
    assert_ne!(old["jti"], new["jti"]);
    assert_eq!((&new["iat"], &again.json["expires_in"]), (&json!(app.now()), &json!(300)));
}

#[tokio::test]
async fn the_absolute_end_never_moves() {
    let app = TestApp::with(&[ROTATION, ("JWT__SESSION_LIFETIME", "3d")]).await;
    let mut token = app.user().await.refresh;
    let end = app.now() + 3 * 86_400;
    for _ in 0..3 {
        app.pass(86_000);
        token = rotated(&app, &token).await;
        assert!(take_apart(&token).claims["exp"].as_i64().unwrap() <= end);
        let stored = app.database.value("SELECT CAST(absolute_expires_at AS TEXT) FROM sessions").await;
        assert_eq!(stored, end.to_string());
    }
    assert_eq!(take_apart(&token).claims["exp"], end);
    app.pass(3 * 400);
    assert_eq!(refused(&app, &token).await, "invalid-token");
}

#[tokio::test]
async fn whoever_is_gone_inactive_or_signed_out_neither_rotates_nor_retries() {
    let app = rotating().await;
    let (signed_out, inactive, gone) = (app.user().await, app.user().await, app.user().await);
    // Each has a newest token, and an older one whose pair a retry could ask for again.
    let mut newest = Vec::new();
    for user in [&signed_out, &inactive, &gone] {
        newest.push(rotated(&app, &user.refresh).await);
    }
    assert_eq!(app.sign_out(&signed_out.refresh).await.status, 204, "with a token of an older generation");
    app.database.execute(&format!("UPDATE users SET is_active = FALSE WHERE id = {}", inactive.id)).await;
    app.database.execute(&format!("DELETE FROM users WHERE id = {}", gone.id)).await;
    for (user, newest) in [&signed_out, &inactive, &gone].into_iter().zip(&newest) {
        assert_eq!(refused(&app, newest).await, "invalid-token", "the newest");
        assert_eq!(refused(&app, &user.refresh).await, "invalid-token", "the one before");
    }
    let moved = app.database.value("SELECT CAST(MAX(generation) AS TEXT) FROM sessions").await;
    assert_eq!(moved, "1", "no session moved on");
}

/// Replicas keep time; one that does not refuses tokens, and signs nobody out.
#[tokio::test]
async fn a_clock_two_hours_off_ends_nothing() {
    let app = rotating().await;
    let ann = app.user().await;
    app.pass(-2 * 3600);
    assert_eq!(refused(&app, &ann.refresh).await, "invalid-token", "from the future");
    app.pass(2 * 3600);
    let second = rotated(&app, &ann.refresh).await;

    app.pass(2 * 3600);
    let third = rotated(&app, &second).await;
    app.pass(-2 * 3600);
    assert_eq!(refused(&app, &third).await, "invalid-token", "from the future");
    assert_eq!(rotated(&app, &second).await, third, "a rotation that is yet to come was just now");
    app.pass(2 * 3600);
    let fourth = rotated(&app, &third).await;
    app.pass(60);
    rotated(&app, &fourth).await;
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let mut app = rotating().await;
    let ann = app.user().await;
    let first = app.refresh(&ann.refresh).await;
    app.stopped();
    let database = std::mem::replace(&mut app.database, TestDatabase::create().await);
    let app = TestApp::on(database, &[ROTATION]).await;
    let again = app.refresh(&ann.refresh).await;
    assert_eq!(first.json["refresh_token"], again.json["refresh_token"], "a retry is a retry");
    app.pass(60);
    assert_eq!(refused(&app, &ann.refresh).await, "refresh-reused", "and a copy a copy");
}

#[tokio::test]
async fn a_token_from_a_time_with_rotation_is_good_without_it_only_if_it_is_the_newest() {
    let mut app = rotating().await;
    let ann = app.user().await;
    let newest = rotated(&app, &ann.refresh).await;
    app.stopped();
    let database = std::mem::replace(&mut app.database, TestDatabase::create().await);
    let app = TestApp::on(database, &[]).await;
    assert_eq!(refused(&app, &ann.refresh).await, "invalid-token");
    assert_eq!(app.refresh(&newest).await.status, 200);
}
