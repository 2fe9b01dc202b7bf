//! `GET /auth/sessions`, `DELETE /auth/sessions/{id}`, `POST /auth/signout-all`

use crate::support::{TestApp, all, app::SignedIn, token::take_apart};
use reqwest::Method;
use serde_json::json;

pub const NEW: &str = "another horse battery";

fn sid(user: &SignedIn) -> String {
    take_apart(&user.access).claims["sid"].as_str().unwrap().to_owned()
}

async fn end(user: &SignedIn, id: &str) -> u16 {
    user.actor.send(Method::DELETE, &format!("/auth/sessions/{id}"), |request| request).await.status
}

pub async fn is_alive(app: &TestApp, user: &SignedIn) -> bool {
    let refreshes = app.refresh(&user.refresh).await.status == 200;
    assert_eq!(user.actor.get("/auth/users/me").await.status == 200, refreshes, "both tokens end together");
    refreshes
}

#[tokio::test]
async fn users_see_where_they_are_signed_in() {
    let app = TestApp::start().await;
    let first = app.user().await;
    app.pass(10);
    let second = app.sign_in(&first.email).await;
    let (_stranger, now) = (app.user().await, app.now());
    let reply = second.actor.get("/auth/sessions").await;
    let at = |seconds: i64| signet::domain::Timestamp(now + seconds).to_string();
    let session = |user: &SignedIn, began: i64, current: bool| {
        json!({
            "id": sid(user), "created_at": at(began), "last_used_at": at(began), "expires_at": at(began + 86_400),
            "user_agent": null, "ip": "127.0.0.1", "current": current,
        })
    };
    assert_eq!((reply.status, &reply.json), (200, &json!([session(&second, 0, true), session(&first, -10, false)])));
    app.sign_out(&first.refresh).await;
    assert_eq!(second.actor.get("/auth/sessions").await.json.as_array().unwrap().len(), 1, "only what is alive");
}

#[tokio::test]
async fn users_end_their_own_sessions_and_nobody_elses() {
    let app = TestApp::start().await;
    let (phone, stranger) = (app.user().await, app.user().await);
    let laptop = app.sign_in(&phone.email).await;
    assert_eq!(end(&laptop, &sid(&phone)).await, 204);
    assert!(!is_alive(&app, &phone).await && is_alive(&app, &laptop).await);
    let strange = sid(&stranger);
    let rows =
        [sid(&phone), strange, "0".repeat(32), "F".repeat(32), "1".into(), "a%00b".into(), "..%2f".into(), "é".into()];
    let mut replies = Vec::new();
    for id in rows {
        replies.push((end(&laptop, &id).await, id));
    }
    all("sessions that are not mine", &replies, |row| row.1.clone(), |row| (row.0 != 404).then(|| row.0.to_string()));
    assert!(is_alive(&app, &stranger).await);
    assert_eq!(end(&laptop, &sid(&laptop)).await, 204, "the one that asks");
    assert!(!is_alive(&app, &laptop).await);
}

#[tokio::test]
async fn signing_out_everywhere_ends_every_session_of_the_caller_and_no_other() {
    let app = TestApp::start().await;
    let (phone, stranger) = (app.user().await, app.user().await);
    let laptop = app.sign_in(&phone.email).await;
    let reply = laptop.actor.send(Method::POST, "/auth/signout-all", |request| request).await;
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    assert!(!is_alive(&app, &phone).await && !is_alive(&app, &laptop).await && is_alive(&app, &stranger).await);
    assert!(is_alive(&app, &app.sign_in(&phone.email).await).await, "and one can sign in again");
}

#[tokio::test]
async fn who_has_too_many_sessions_loses_the_oldest() {
    let app = TestApp::with(&[("USERS__MAX_SESSIONS", "3")]).await;
    let mut sessions = vec![app.user().await];
    // All within a second or not: the order is that of the sign-ins.
    for pause in [0, 0, 1, 0] {
        app.pass(pause);
        sessions.push(app.sign_in(&sessions[0].email).await);
    }
    let mut alive = Vec::new();
    for session in &sessions {
        alive.push(is_alive(&app, session).await);
    }
    assert_eq!(alive, [false, false, true, true, true]);
}
