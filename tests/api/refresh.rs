//! `POST /auth/refresh-access`

use crate::support::{TestApp, all, token::take_apart};
use serde_json::json;

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
