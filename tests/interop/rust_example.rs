//! The Rust example of docs/verify-tokens.md accepts and refuses tokens of a service.

use crate::support::{PASSWORD, TestApp, keys::PAIRS};
use jsonwebtoken::jwk::JwkSet;
use serde_json::json;

#[expect(dead_code, reason = "its `main` needs the internet")]
mod example {
    include!("../../examples/rust.rs");

    /// The subject of a token, if the example accepts it.
    pub fn subject(token: &str, keys: &JwkSet) -> Option<String> {
        verify(token, keys).ok().map(|claims| claims.sub)
    }
}

#[tokio::test]
async fn the_example_in_rust_accepts_good_tokens_only() {
    let &(_, key, _) = PAIRS.iter().find(|(algorithm, ..)| *algorithm == "ES256").unwrap();
    let settings = [
        ("JWT__ALGORITHM", "ES256"),
        ("JWT__SIGNING_KEY", key),
        ("JWT__ISSUER", "https://id.example.com"),
        ("JWT__AUDIENCES", "https://orders.example.com,https://books.example.com"),
        ("JWT__ACCESS_TOKEN_LIFETIME", "1h"),
    ];
    let app = TestApp::with(&settings).await;
    let keys: JwkSet = serde_json::from_value(app.anon().get("/.well-known/jwks.json").await.json).unwrap();
    let ann = app.user().await;
    let token = async |app: &TestApp, audience: &str| {
        let body = json!({"email": ann.email, "password": PASSWORD, "audience": audience});
        app.anon().post("/auth/signin", &body).await.string("access_token").to_owned()
    };
    let good = token(&app, "https://orders.example.com").await;
    let books = token(&app, "https://books.example.com").await;
    app.advance(-2 * 3600);
    let expired = token(&app, "https://orders.example.com").await;
    app.advance(2 * 3600);
    let app =
        app.restart(&[&settings[..2], &[("JWT__ISSUER", "https://x.example.com")], &settings[3..]].concat()).await;
    let of_another = token(&app, "https://orders.example.com").await;
    assert_eq!(example::subject(&good, &keys), Some(ann.id.to_string()));
    let middle = good.len() - 40;
    let other = if &good[middle..=middle] == "A" { "B" } else { "A" };
    let altered = format!("{}{other}{}", &good[..middle], &good[middle + 1..]);
    let none = format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap());
    for bad in [&books, &expired, &of_another, &altered, &none, &ann.refresh, &ann.access, ""] {
        assert_eq!(example::subject(bad, &keys), None, "{bad}");
    }
}
