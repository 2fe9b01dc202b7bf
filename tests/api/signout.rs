//! `POST /auth/signout`

use crate::support::{
    TestApp,
    app::{REFRESH_KEY, SIGNING_KEY},
    token::take_apart,
};

#[tokio::test]
async fn a_sign_out_ends_both_tokens_of_the_session_and_no_other() {
    let app = TestApp::start().await;
    let phone = app.user().await;
    let laptop = app.sign_in(&phone.email).await;
    let reply = app.sign_out(&phone.refresh).await;
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    assert_eq!(app.refresh(&phone.refresh).await.code(), "invalid-token");
    assert_eq!(phone.actor.get("/auth/users/me").await.code(), "invalid-token");
    assert_eq!(app.refresh(&laptop.refresh).await.status, 200);
    assert_eq!(laptop.actor.get("/auth/users/me").await.status, 200);
}

#[tokio::test]
async fn a_repeated_sign_out_is_204() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    for _ in 0..3 {
        assert_eq!(app.sign_out(&ann.refresh).await.status, 204);
    }
}

#[tokio::test]
async fn a_correctly_signed_refresh_token_signs_out_at_any_age_and_generation() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.advance(40 * 86_400);
    assert_eq!(app.sign_out(&ann.refresh).await.status, 204, "of an expired session");
    let mut token = take_apart(&ann.refresh);
    token.claims["gen"] = 7.into();
    assert_eq!(app.sign_out(&token.sign(REFRESH_KEY)).await.status, 204, "of another generation");
    token.claims["sub"] = "999".into();
    token.claims["sid"] = "0".repeat(32).into();
    assert_eq!(app.sign_out(&token.sign(REFRESH_KEY)).await.status, 204, "of an unknown user and session");
    app.database.execute("DELETE FROM sessions").await;
    app.database.execute("DELETE FROM users").await;
    assert_eq!(app.sign_out(&ann.refresh).await.status, 204, "of a deleted user");
}

#[tokio::test]
async fn only_a_correctly_signed_refresh_token_signs_out() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let forged = take_apart(&ann.refresh).sign(SIGNING_KEY);
    for token in ["", "a", "a.b.c", &ann.access, &forged, &format!("{} ", ann.refresh)] {
        let reply = app.sign_out(token).await;
        assert_eq!((reply.status, reply.code()), (401, "invalid-token"), "{token}");
    }
    assert_eq!(app.refresh(&ann.refresh).await.status, 200, "the session has not ended");
}
