//! `POST /auth/refresh-access`, with `jwt.rotate_refresh_tokens` and without

use crate::support::{Reply, TestApp, all_replies, app::REFRESH_KEY, token::take_apart};
use futures_util::future::join_all;
use serde_json::{Value, json};

#[tokio::test]
async fn without_rotation_a_refresh_returns_only_an_access_token() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.advance(10);
    let reply = app.refresh(&ann.refresh).await;
    assert_eq!(reply.status, 200);
    let members: Vec<&str> = reply.json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["access_token", "expires_in", "token_type"]);
    assert_eq!((&reply.json["token_type"], &reply.json["expires_in"]), (&json!("Bearer"), &json!(300)));
    let (old, new) = (take_apart(&ann.access).claims, take_apart(reply.string("access_token")).claims);
    assert_eq!((&new["sub"], &new["sid"]), (&old["sub"], &old["sid"]));
    assert_ne!(new["jti"], old["jti"]);
    assert_eq!((new["iat"].as_i64(), new["exp"].as_i64()), (Some(app.now()), Some(app.now() + 300)));
    assert_eq!(app.refresh(&ann.refresh).await.status, 200, "without rotation the same token works again");
}

#[tokio::test]
async fn a_refresh_reads_the_current_roles_and_username() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.database.execute(&format!("UPDATE users SET is_staff = TRUE, is_superuser = TRUE, username = 'ann', username_key = 'ann' WHERE id = {}", ann.id)).await;
    let reply = app.refresh(&ann.refresh).await;
    let claims = take_apart(reply.string("access_token")).claims;
    assert_eq!((&claims["roles"], &claims["preferred_username"]), (&json!(["staff", "superuser"]), &json!("ann")));
}

#[tokio::test]
async fn the_tokens_of_an_inactive_user_are_refused() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.database.execute(&format!("UPDATE users SET is_active = FALSE WHERE id = {}", ann.id)).await;
    let reply = app.refresh(&ann.refresh).await;
    assert_eq!((reply.status, reply.code()), (401, "invalid-token"));
    let reply = ann.actor.get("/auth/users/me").await;
    assert_eq!((reply.status, reply.code()), (401, "invalid-token"));
}

#[tokio::test]
async fn the_tokens_of_a_deleted_user_are_refused() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.database.execute(&format!("DELETE FROM users WHERE id = {}", ann.id)).await;
    let reply = app.refresh(&ann.refresh).await;
    assert_eq!((reply.status, reply.code()), (401, "invalid-token"));
    let reply = ann.actor.get("/auth/users/me").await;
    assert_eq!((reply.status, reply.code()), (401, "invalid-token"));
    // The next user must not get the id, or the tokens of the deleted user would be valid for it.
    assert_ne!(app.user().await.id, ann.id);
}

#[tokio::test]
async fn a_refresh_token_expires_after_its_lifetime() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.advance(86_399);
    assert_eq!(app.refresh(&ann.refresh).await.status, 200);
    app.advance(1);
    let reply = app.refresh(&ann.refresh).await;
    assert_eq!((reply.status, reply.code()), (401, "invalid-token"));
}

#[tokio::test]
async fn no_access_token_outlives_its_session() {
    let app = TestApp::with(&[("JWT__SESSION_LIFETIME", "1h"), ("JWT__REFRESH_TOKEN_LIFETIME", "1h")]).await;
    let ann = app.user().await;
    app.advance(3600 - 100);
    let reply = app.refresh(&ann.refresh).await;
    assert_eq!(reply.json["expires_in"], 100);
    assert_eq!(take_apart(reply.string("access_token")).claims["exp"], app.now() + 100);
}

#[tokio::test]
async fn the_last_use_is_stored_at_most_once_a_minute() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let began = app.now();
    let last_use = || async {
        app.database.value("SELECT CAST(last_used_at AS TEXT) FROM sessions").await.parse::<i64>().unwrap() - began
    };
    app.advance(59);
    app.refresh(&ann.refresh).await;
    assert_eq!(last_use().await, 0);
    app.advance(1);
    app.refresh(&ann.refresh).await;
    assert_eq!(last_use().await, 60);
}

#[tokio::test]
async fn without_rotation_another_generation_is_refused() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.database.execute("UPDATE sessions SET generation = 1").await;
    assert_eq!(app.refresh(&ann.refresh).await.code(), "invalid-token");
}

#[tokio::test]
async fn a_malformed_refresh_or_sign_out_body_is_400() {
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
    for path in ["/auth/refresh-access", "/auth/signout"] {
        let fault = async |(body, pointers): &&(&'static str, Vec<&str>)| {
            let reply = app.anon().post_raw(path, *body).await;
            let is_right = (reply.status, reply.code(), &reply.pointers()) == (400, "invalid-request", pointers);
            (!is_right).then(|| reply.text.clone())
        };
        all_replies("refresh bodies", &rows, |(body, _)| format!("{path} {body}"), fault).await;
    }
}

const ROTATION: (&str, &str) = ("JWT__ROTATE_REFRESH_TOKENS", "true");

async fn rotating() -> TestApp {
    TestApp::with(&[ROTATION]).await
}

/// Refreshes successfully and returns the new refresh token.
async fn rotated(app: &TestApp, token: &str) -> String {
    let reply = app.refresh(token).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.string("refresh_token").to_owned()
}

/// Refreshes, expects 401 and returns the error code.
async fn refused(app: &TestApp, token: &str) -> String {
    let reply = app.refresh(token).await;
    assert_eq!(reply.status, 401, "{reply:?}");
    reply.code().to_owned()
}

#[tokio::test]
async fn with_rotation_a_refresh_returns_a_new_pair() {
    let app = rotating().await;
    let ann = app.user().await;
    app.advance(10);
    let reply = app.refresh(&ann.refresh).await;
    let members: Vec<&str> = reply.json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["access_token", "expires_in", "refresh_expires_in", "refresh_token", "token_type"]);
    assert_eq!((&reply.json["expires_in"], &reply.json["refresh_expires_in"]), (&json!(300), &json!(86_400)));
    let (old, new) = (take_apart(&ann.refresh).claims, take_apart(reply.string("refresh_token")).claims);
    assert_eq!((&new["sid"], &new["gen"], &new["iat"]), (&old["sid"], &json!(1), &json!(app.now())));
    assert_eq!(new["exp"], app.now() + 86_400);
    let access = reply.string("access_token");
    assert_eq!(take_apart(access).claims["jti"].as_str().unwrap().len(), 22);
    assert_eq!(app.bearer(access).get("/auth/users/me").await.status, 200);
}

#[tokio::test]
async fn a_retry_within_the_grace_period_gets_the_same_pair() {
    let app = rotating().await;
    let ann = app.user().await;
    let first = app.refresh(&ann.refresh).await;
    app.advance(29);
    let again = app.refresh(&ann.refresh).await;
    for member in ["access_token", "refresh_token"] {
        assert_eq!(first.json[member], again.json[member], "the same bytes");
    }
    assert_eq!((&again.json["expires_in"], &again.json["refresh_expires_in"]), (&json!(271), &json!(86_371)));
    assert_eq!(app.database.value("SELECT CAST(generation AS TEXT) FROM sessions").await, "1");
}

#[tokio::test]
async fn a_retry_reads_the_current_roles_and_keeps_every_other_claim() {
    let app = rotating().await;
    let ann = app.user().await;
    let first = take_apart(app.refresh(&ann.refresh).await.string("access_token")).claims;
    app.database.execute(&format!("UPDATE users SET is_staff = TRUE WHERE id = {}", ann.id)).await;
    let again = take_apart(app.refresh(&ann.refresh).await.string("access_token")).claims;
    for claim in ["sub", "sid", "jti", "iat", "exp"] {
        assert_eq!(first[claim], again[claim], "{claim}");
    }
    assert_eq!((first.get("roles"), &again["roles"]), (None, &json!(["staff"])), "absent when there are none");
}

/// Asserts that all replies have the same pair and that the session has this generation; returns the refresh token.
async fn assert_one_pair(app: &TestApp, replies: &[Reply], generation: i64) -> String {
    let pairs: Vec<[&Value; 2]> =
        replies.iter().map(|reply| [&reply.json["access_token"], &reply.json["refresh_token"]]).collect();
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    assert!(pairs.iter().all(|pair| *pair == pairs[0]), "more than one pair");
    let stored = app.database.value("SELECT CAST(generation AS TEXT) FROM sessions").await;
    assert_eq!(stored, generation.to_string());
    replies[0].string("refresh_token").to_owned()
}

#[tokio::test]
async fn sixteen_concurrent_refreshes_get_one_pair() {
    let app = TestApp::with(&[ROTATION, ("SERVER__WORKERS", "2")]).await;
    let mut token = app.user().await.refresh;
    for generation in 1..=5 {
        let replies = join_all((0..16).map(|_| app.refresh(&token))).await;
        token = assert_one_pair(&app, &replies, generation).await;
        app.advance(60);
    }
}

#[tokio::test]
async fn sixteen_concurrent_refreshes_on_two_replicas_get_one_pair() {
    let app = TestApp::with(&[ROTATION, ("DATABASE__ACQUIRE_TIMEOUT", "10s")]).await;
    let replica = app.replica(&[ROTATION, ("DATABASE__ACQUIRE_TIMEOUT", "10s")]).await;
    let mut token = app.user().await.refresh;
    for generation in 1..=5 {
        let here = join_all((0..8).map(|_| app.refresh(&token)));
        let there = join_all((0..8).map(|_| replica.refresh(&token)));
        let (mut replies, there) = tokio::join!(here, there);
        replies.extend(there);
        token = assert_one_pair(&app, &replies, generation).await;
        app.advance(60);
    }
}

#[tokio::test]
async fn a_used_refresh_token_ends_its_session_and_no_other() {
    let app = rotating().await;
    let stolen = app.user().await;
    let other = app.sign_in(&stolen.email).await;
    let reply = app.refresh(&stolen.refresh).await;
    let (access, refresh) = (reply.string("access_token"), reply.string("refresh_token"));
    app.advance(30);
    assert_eq!(refused(&app, &stolen.refresh).await, "refresh-reused");
    assert_eq!(refused(&app, refresh).await, "invalid-token", "the newest token is refused, too");
    assert_eq!(app.bearer(access).get("/auth/users/me").await.status, 401);
    assert_eq!(refused(&app, &stolen.refresh).await, "invalid-token", "the session has ended");
    assert_eq!(other.actor.get("/auth/users/me").await.status, 200);
    rotated(&app, &other.refresh).await;
}

#[tokio::test]
async fn a_token_two_generations_old_is_superseded_for_ten_seconds_and_then_reused() {
    let app = rotating().await;
    let ann = app.user().await;
    let second = rotated(&app, &ann.refresh).await;
    let third = rotated(&app, &second).await;
    app.advance(9);
    assert_eq!(refused(&app, &ann.refresh).await, "refresh-superseded");
    assert_eq!(rotated(&app, &second).await, third, "the previous token counts as a retry");
    let fourth = rotated(&app, &third).await;
    app.advance(10);
    assert_eq!(refused(&app, &second).await, "refresh-reused", "after ten seconds the token counts as a copy");
    assert_eq!(refused(&app, &fourth).await, "invalid-token");
}

#[tokio::test]
async fn without_a_grace_period_a_refresh_token_works_once() {
    let app = TestApp::with(&[ROTATION, ("JWT__REFRESH_GRACE", "0s")]).await;
    let ann = app.user().await;
    rotated(&app, &ann.refresh).await;
    assert_eq!(refused(&app, &ann.refresh).await, "refresh-reused");
}

#[tokio::test]
async fn a_generation_that_was_never_issued_is_refused_and_ends_nothing() {
    let app = rotating().await;
    let ann = app.user().await;
    let mut parts = take_apart(&ann.refresh);
    for generation in [1, 2, i64::MAX] {
        parts.claims["gen"] = generation.into();
        let token = parts.sign(REFRESH_KEY);
        assert_eq!(refused(&app, &token).await, "invalid-token", "{generation}");
    }
    rotated(&app, &ann.refresh).await;
}

#[tokio::test]
async fn a_retry_after_the_access_token_expired_gets_a_new_one_and_the_same_refresh_token() {
    let app = TestApp::with(&[ROTATION, ("JWT__REFRESH_GRACE", "1h")]).await;
    let ann = app.user().await;
    let first = app.refresh(&ann.refresh).await;
    app.advance(300);
    let again = app.refresh(&ann.refresh).await;
    assert_eq!(first.json["refresh_token"], again.json["refresh_token"]);
    let (old, new) = (take_apart(first.string("access_token")).claims, take_apart(again.string("access_token")).claims);
    assert_ne!(old["jti"], new["jti"]);
    assert_eq!((&new["iat"], &again.json["expires_in"]), (&json!(app.now()), &json!(300)));
}

#[tokio::test]
async fn rotation_never_moves_the_absolute_end_of_a_session() {
    let app = TestApp::with(&[ROTATION, ("JWT__SESSION_LIFETIME", "3d")]).await;
    let mut token = app.user().await.refresh;
    let end = app.now() + 3 * 86_400;
    for _ in 0..3 {
        app.advance(86_000);
        token = rotated(&app, &token).await;
        assert!(take_apart(&token).claims["exp"].as_i64().unwrap() <= end);
        let stored = app.database.value("SELECT CAST(absolute_expires_at AS TEXT) FROM sessions").await;
        assert_eq!(stored, end.to_string());
    }
    assert_eq!(take_apart(&token).claims["exp"], end);
    app.advance(3 * 400);
    assert_eq!(refused(&app, &token).await, "invalid-token");
}

#[tokio::test]
async fn a_deleted_inactive_or_signed_out_user_neither_rotates_nor_retries() {
    let app = rotating().await;
    let (signed_out, inactive, deleted) = (app.user().await, app.user().await, app.user().await);
    // Each user has the newest token and the previous one, with which a retry could get the pair again.
    let mut newest = Vec::new();
    for user in [&signed_out, &inactive, &deleted] {
        newest.push(rotated(&app, &user.refresh).await);
    }
    assert_eq!(app.sign_out(&signed_out.refresh).await.status, 204, "with a token of an older generation");
    app.database.execute(&format!("UPDATE users SET is_active = FALSE WHERE id = {}", inactive.id)).await;
    app.database.execute(&format!("DELETE FROM users WHERE id = {}", deleted.id)).await;
    for (user, newest) in [&signed_out, &inactive, &deleted].into_iter().zip(&newest) {
        assert_eq!(refused(&app, newest).await, "invalid-token", "the newest token");
        assert_eq!(refused(&app, &user.refresh).await, "invalid-token", "the previous token");
    }
    let generation = app.database.value("SELECT CAST(MAX(generation) AS TEXT) FROM sessions").await;
    assert_eq!(generation, "1", "no session was rotated");
}

/// A replica with a wrong clock refuses tokens but ends no session.
#[tokio::test]
async fn a_clock_that_is_two_hours_off_ends_no_session() {
    let app = rotating().await;
    let ann = app.user().await;
    app.advance(-2 * 3600);
    assert_eq!(refused(&app, &ann.refresh).await, "invalid-token", "issued in the future");
    app.advance(2 * 3600);
    let second = rotated(&app, &ann.refresh).await;

    app.advance(2 * 3600);
    let third = rotated(&app, &second).await;
    app.advance(-2 * 3600);
    assert_eq!(refused(&app, &third).await, "invalid-token", "issued in the future");
    assert_eq!(rotated(&app, &second).await, third, "a rotation in the future counts as one that happens now");
    app.advance(2 * 3600);
    let fourth = rotated(&app, &third).await;
    app.advance(60);
    rotated(&app, &fourth).await;
}

#[tokio::test]
async fn a_restart_keeps_the_rotation_state() {
    let app = rotating().await;
    let ann = app.user().await;
    let first = app.refresh(&ann.refresh).await;
    let app = app.restart(&[ROTATION]).await;
    let again = app.refresh(&ann.refresh).await;
    assert_eq!(first.json["refresh_token"], again.json["refresh_token"], "a retry gets the same pair");
    app.advance(60);
    assert_eq!(refused(&app, &ann.refresh).await, "refresh-reused", "a copy is still detected");
}

#[tokio::test]
async fn after_rotation_is_turned_off_only_the_newest_refresh_token_works() {
    let app = rotating().await;
    let ann = app.user().await;
    let newest = rotated(&app, &ann.refresh).await;
    let app = app.restart(&[]).await;
    assert_eq!(refused(&app, &ann.refresh).await, "invalid-token");
    assert_eq!(app.refresh(&newest).await.status, 200);
}
