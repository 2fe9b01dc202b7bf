//! `GET /auth/sessions`, `DELETE /auth/sessions/{id}`, `POST /auth/signout-all`

use crate::support::{SignedIn, TestApp, all_replies};
use reqwest::Method;
use serde_json::json;

async fn end(user: &SignedIn, id: &str) -> u16 {
    user.actor.send(Method::DELETE, &format!("/auth/sessions/{id}"), |request| request).await.status
}

#[tokio::test]
async fn a_user_lists_their_live_sessions() {
    let app = TestApp::start().await;
    let first = app.user().await;
    app.advance(10);
    let second = app.sign_in(&first.email).await;
    let (_stranger, now) = (app.user().await, app.now());
    let reply = second.actor.get("/auth/sessions").await;
    let at = |seconds: i64| signet::domain::Timestamp(now + seconds).to_string();
    let session = |user: &SignedIn, began: i64, current: bool| {
        json!({
            "id": user.sid(), "created_at": at(began), "last_used_at": at(began), "expires_at": at(began + 86_400),
            "user_agent": null, "ip": "127.0.0.1", "current": current,
        })
    };
    assert_eq!((reply.status, &reply.json), (200, &json!([session(&second, 0, true), session(&first, -10, false)])));
    app.sign_out(&first.refresh).await;
    assert_eq!(
        second.actor.get("/auth/sessions").await.json.as_array().unwrap().len(),
        1,
        "only live sessions are listed"
    );
}

#[tokio::test]
async fn a_user_can_end_only_their_own_sessions() {
    let app = TestApp::start().await;
    let (phone, stranger) = (app.user().await, app.user().await);
    let laptop = app.sign_in(&phone.email).await;
    assert_eq!(end(&laptop, &phone.sid()).await, 204);
    assert!(!app.is_alive(&phone).await && app.is_alive(&laptop).await);
    let strange = stranger.sid();
    let rows =
        [phone.sid(), strange, "0".repeat(32), "F".repeat(32), "1".into(), "a%00b".into(), "..%2f".into(), "é".into()];
    let fault = async |id: &String| {
        Some(end(&laptop, id).await).filter(|status| *status != 404).map(|status| status.to_string())
    };
    all_replies("sessions of other users, and invalid ids", rows, Clone::clone, fault).await;
    assert!(app.is_alive(&stranger).await);
    assert_eq!(end(&laptop, &laptop.sid()).await, 204, "the caller may end its own session");
    assert!(!app.is_alive(&laptop).await);
}

#[tokio::test]
async fn signout_all_ends_every_session_of_the_caller_and_no_other() {
    let app = TestApp::start().await;
    let (phone, stranger) = (app.user().await, app.user().await);
    let laptop = app.sign_in(&phone.email).await;
    let reply = laptop.actor.send(Method::POST, "/auth/signout-all", |request| request).await;
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    assert!(!app.is_alive(&phone).await && !app.is_alive(&laptop).await && app.is_alive(&stranger).await);
    assert!(app.is_alive(&app.sign_in(&phone.email).await).await, "the user can sign in again");
}

#[tokio::test]
async fn a_sign_in_beyond_max_sessions_ends_the_oldest_session() {
    let app = TestApp::with(&[("USERS__MAX_SESSIONS", "3")]).await;
    let mut sessions = vec![app.user().await];
    // The order of the sign-ins decides even within one second.
    for pause in [0, 0, 1, 0] {
        app.advance(pause);
        sessions.push(app.sign_in(&sessions[0].email).await);
    }
    let mut alive = Vec::new();
    for session in &sessions {
        alive.push(app.is_alive(session).await);
    }
    assert_eq!(alive, [false, false, true, true, true]);
}
