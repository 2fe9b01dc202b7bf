//! The client address of a session behind a proxy

use crate::support::{PASSWORD, TestApp};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

/// Signs in with these headers and returns the client address of the new session.
async fn client_address(app: &TestApp, headers: &[(&str, &str)]) -> String {
    let ann = app.user().await;
    let body = json!({"email": ann.email, "password": PASSWORD}).to_string();
    let send = |request: RequestBuilder| {
        let request = request.header("content-type", "application/json").body(body);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let reply = app.anon().send(Method::POST, "/auth/signin", send).await;
    let bearer = app.bearer(reply.string("access_token"));
    let sessions = bearer.get("/auth/sessions").await.json;
    let current = sessions.as_array().unwrap().iter().find(|session| session["current"] == true).unwrap();
    current["ip"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn only_a_trusted_proxy_sets_the_client_address() {
    let forged = [("x-forwarded-for", "6.6.6.6, 203.0.113.7"), ("x-real-ip", "6.6.6.6"), ("forwarded", "for=6.6.6.6")];
    let untrusting = TestApp::start().await;
    assert_eq!(client_address(&untrusting, &forged).await, "127.0.0.1", "no proxy is trusted by default");
    let elsewhere = TestApp::with(&[("SERVER__TRUSTED_PROXIES", "10.0.0.0/8")]).await;
    assert_eq!(client_address(&elsewhere, &forged).await, "127.0.0.1");
    let here = TestApp::with(&[("SERVER__TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8")]).await;
    assert_eq!(
        client_address(&here, &forged).await,
        "203.0.113.7",
        "the client may have forged the addresses to the left"
    );
    assert_eq!(client_address(&here, &[("x-forwarded-for", "6.6.6.6,203.0.113.7,10.1.1.1")]).await, "203.0.113.7");
    let other = [("SERVER__TRUSTED_PROXIES", "127.0.0.1"), ("SERVER__FORWARDED_HEADER", "X-Real-IP")];
    let other = TestApp::with(&other).await;
    assert_eq!(
        client_address(&other, &[("x-forwarded-for", "6.6.6.6"), ("x-real-ip", "203.0.113.9")]).await,
        "203.0.113.9"
    );
}
