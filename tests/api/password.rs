//! `POST /auth/password`

use crate::support::{PASSWORD, TestApp, all_replies};
use futures_util::future::join_all;
use serde_json::{Value, json};

const NEW: &str = "another horse battery";

#[tokio::test]
async fn a_new_password_ends_every_other_session() {
    let app = TestApp::start().await;
    let phone = app.user().await;
    let laptop = app.sign_in(&phone.email).await;
    let change = json!({"current_password": PASSWORD, "new_password": NEW});
    assert_eq!(laptop.actor.post("/auth/password", &change).await.status, 204);
    assert!(!app.is_alive(&phone).await && app.is_alive(&laptop).await);
    let sign_in = async |password: &str| app.try_sign_in(&phone.email, password).await.status;
    assert_eq!((sign_in(PASSWORD).await, sign_in(NEW).await), (401, 200));
}

#[tokio::test]
async fn a_password_change_requires_the_current_and_an_acceptable_new_password() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let long = "a".repeat(257);
    let rows = [
        (json!({"current_password": "wrong", "new_password": NEW}), 401, "invalid-credentials"),
        (json!({"current_password": "", "new_password": NEW}), 401, "invalid-credentials"),
        (json!({"current_password": PASSWORD, "new_password": "short"}), 400, "weak-password"),
        (json!({"current_password": PASSWORD, "new_password": long}), 400, "weak-password"),
        (json!({"current_password": PASSWORD, "new_password": "with a \0 in it"}), 400, "invalid-request"),
        (json!({"current_password": PASSWORD}), 400, "invalid-request"),
        (json!({"new_password": NEW}), 400, "invalid-request"),
        (json!({"current_password": null, "new_password": NEW}), 400, "invalid-request"),
        (json!({"current_password": PASSWORD, "new_password": NEW, "email": ann.email}), 400, "invalid-request"),
        (json!([]), 400, "invalid-request"),
    ];
    let fault = async |(body, status, code): &(Value, u16, &str)| {
        ann.actor.post("/auth/password", body).await.differs_from(*status, code)
    };
    all_replies("password changes", rows, |row| row.0.to_string(), fault).await;
    app.sign_in(&ann.email).await;
}

#[tokio::test]
async fn of_concurrent_password_changes_one_succeeds_and_the_rest_are_401() {
    let app = TestApp::with(&[("PASSWORDS__HASH_THREADS", "2"), ("SERVER__WORKERS", "2")]).await;
    let ann = app.user().await;
    let bodies: Vec<_> =
        (0..6).map(|n| json!({"current_password": PASSWORD, "new_password": format!("{NEW} {n}")})).collect();
    let replies = join_all(bodies.iter().map(|body| ann.actor.post("/auth/password", body))).await;
    let succeeded: Vec<usize> = (0..6).filter(|n| replies[*n].status == 204).collect();
    assert_eq!(succeeded.len(), 1, "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| reply.code() == "invalid-credentials").count(), 5);
    let body = json!({"email": ann.email, "password": bodies[succeeded[0]]["new_password"]});
    assert_eq!(app.anon().post("/auth/signin", &body).await.status, 200);
}
