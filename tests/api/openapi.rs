//! `GET /openapi.json`, and each operation that it describes

use super::mail::MailApp;
use crate::support::{PASSWORD, TestApp, actor::DOCUMENT, all};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test]
async fn the_served_document_is_the_committed_one() {
    let app = TestApp::start().await;
    let served = app.anon().get("/openapi.json").await;
    assert_eq!((served.header("content-type"), &served.json), ("application/json", &*DOCUMENT));
}

/// Calls each operation successfully. As in every test, the client checks each reply against its schema.
#[tokio::test]
async fn every_operation_of_the_document_can_be_called() {
    let mut mails = MailApp::start().await;
    let (dora, verify_mail) = mails.user().await;
    let confirmed = mails.post("/auth/verify-email/confirm", json!({"token": verify_mail.token()})).await;
    let verification = dora.actor.send(Method::POST, "/auth/verify-email", |request| request).await;
    let reset = mails.post("/auth/password/reset", json!({"email": "unknown@example.com"})).await;
    let reset_mail = mails.reset_mail(&dora.email).await;
    let confirmed_reset = mails.reset(json!({"token": reset_mail.token()}), "another horse battery").await;
    let app = &mails.app;
    let client = app.client("", &[]).await;
    let grant = [("grant_type", "client_credentials")];
    let eric = app.user().await;
    let email = eric.actor.post("/auth/email", &json!({"password": PASSWORD, "email": "eric@example.org"})).await;
    let ann = app.user().await;
    let other = app.sign_in(&ann.email).await;
    let (bearer, stranger) = (&ann.actor, app.anon());
    let credentials = |email: &str| json!({"email": email, "password": PASSWORD});
    let refresh = |token: &str| json!({ "refresh_token": token });
    let sessions = bearer.get("/auth/sessions").await.json;
    let session = sessions.as_array().unwrap().iter().find(|session| session["current"] == false).unwrap();
    let end = format!("/auth/sessions/{}", session["id"].as_str().unwrap());
    let (admin, eve) = (app.superuser().await.actor, app.user().await);
    let about_eve = format!("/auth/users/{}", eve.id);
    let new_password = json!({"new_password": "another horse battery"});
    let set_password =
        admin.send(Method::PUT, &format!("{about_eve}/password"), |request| request.json(&new_password)).await;
    let new_key = bearer.post("/auth/api-keys", &json!({"name": "export", "password": PASSWORD})).await;
    let key = format!("/auth/api-keys/{}", new_key.string("id"));
    let password = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
    let replies = [
        ("post /auth/create", stranger.post("/auth/create", &credentials("bob@example.com")).await),
        ("post /auth/signin", stranger.post("/auth/signin", &credentials("bob@example.com")).await),
        ("post /auth/refresh-access", stranger.post("/auth/refresh-access", &refresh(&ann.refresh)).await),
        ("get /auth/sessions", bearer.get("/auth/sessions").await),
        ("delete /auth/sessions/{id}", bearer.send(Method::DELETE, &end, |request| request).await),
        ("get /auth/users", bearer.get("/auth/users?limit=1").await),
        ("get /auth/users/me", bearer.get("/auth/users/me").await),
        ("patch /auth/users/me", bearer.patch("/auth/users/me", &json!({"first_name": "Ann"})).await),
        ("get /auth/verify", bearer.get("/auth/verify").await),
        ("get /auth/users/{id}", admin.get(&about_eve).await),
        ("patch /auth/users/{id}", admin.patch(&about_eve, &json!({"is_verified": true})).await),
        ("put /auth/users/{id}/password", set_password),
        ("delete /auth/users/{id}/sessions", admin.delete(&format!("{about_eve}/sessions")).await),
        ("delete /auth/users/{id}", admin.delete(&about_eve).await),
        ("get /auth/audit", admin.get("/auth/audit").await),
        ("get /auth/revocations", client.actor.get("/auth/revocations").await),
        ("post /oauth/token", client.actor.form("/oauth/token", &grant).await),
        ("post /oauth/introspect", client.actor.form("/oauth/introspect", &[("token", &ann.access)]).await),
        ("post /oauth/revoke", client.actor.form("/oauth/revoke", &[("token", "x")]).await),
        ("get /.well-known/oauth-authorization-server", stranger.get("/.well-known/oauth-authorization-server").await),
        ("get /.well-known/openid-configuration", stranger.get("/.well-known/openid-configuration").await),
        ("post /auth/api-keys", new_key),
        ("get /auth/api-keys", bearer.get("/auth/api-keys").await),
        ("delete /auth/api-keys/{id}", bearer.delete(&key).await),
        ("post /auth/email", email),
        ("post /auth/password/reset", reset),
        ("post /auth/password/reset/confirm", confirmed_reset),
        ("post /auth/verify-email", verification),
        ("post /auth/verify-email/confirm", confirmed),
        ("post /auth/password", bearer.post("/auth/password", &password).await),
        ("post /auth/signout", stranger.post("/auth/signout", &refresh(&other.refresh)).await),
        ("post /auth/signout-all", bearer.send(Method::POST, "/auth/signout-all", |request| request).await),
        ("get /.well-known/jwks.json", stranger.get("/.well-known/jwks.json").await),
        ("get /livez", stranger.get("/livez").await),
        ("get /readyz", stranger.get("/readyz").await),
        ("get /metrics", stranger.get("/metrics").await),
        ("get /openapi.json", stranger.get("/openapi.json").await),
    ];
    all(
        "operations",
        &replies,
        |(name, _)| (*name).to_owned(),
        |(_, reply)| (!(200..300).contains(&reply.status)).then(|| format!("{reply:?}")),
    );
    let documented = DOCUMENT["paths"].as_object().unwrap().iter().flat_map(|(path, operations)| {
        operations.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
    });
    let called: BTreeSet<String> = replies.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(called, documented.collect());
}
