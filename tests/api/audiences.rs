//! A token is for one audience: a service that receives a token cannot use it elsewhere.

use crate::support::{PASSWORD, Reply, TestApp, all, token::take_apart};
use serde_json::{Value, json};

const SIGNET: &str = "https://id.example.com";
const ORDERS: &str = "https://orders.example.com";
const INVOICES: &str = "https://invoices.example.com";

async fn app(rotates: &str) -> TestApp {
    let audiences = format!("{ORDERS},{INVOICES}");
    TestApp::with(&[
        ("JWT__AUDIENCE", SIGNET),
        ("JWT__AUDIENCES", &audiences),
        ("JWT__ROTATE_REFRESH_TOKENS", rotates),
        ("JWT__REFRESH_GRACE", "30s"),
    ])
    .await
}

fn claims(reply: &Reply) -> Value {
    take_apart(reply.string("access_token")).claims
}

/// The threat: a service uses a token that it received. Neither Signet nor another service accepts the token.
#[tokio::test]
async fn one_service_only_accepts_a_token() {
    let app = app("false").await;
    let ann = app.user().await;
    let sign_in = async |audience: &str| {
        let body = json!({"email": ann.email, "password": PASSWORD, "audience": audience});
        app.anon().post("/auth/signin", &body).await.string("access_token").to_owned()
    };
    let tokens =
        [(SIGNET, sign_in(SIGNET).await), (ORDERS, sign_in(ORDERS).await), (INVOICES, sign_in(INVOICES).await)];
    let mut cases = Vec::new();
    for (audience, token) in &tokens {
        assert_eq!(take_apart(token).claims["aud"], *audience);
        let of_signet = if *audience == SIGNET { 200 } else { 401 };
        for path in ["/auth/verify", "/auth/users/me", "/auth/users", "/auth/sessions", "/auth/api-keys"] {
            cases.push((*audience, path.to_owned(), of_signet, app.bearer(token).get(path).await.status));
        }
        for asked in [SIGNET, ORDERS, INVOICES] {
            let path = format!("/auth/verify?audience={asked}");
            let status = app.bearer(token).get(&path).await.status;
            cases.push((*audience, path, if asked == *audience { 200 } else { 401 }, status));
        }
    }
    all(
        "tokens and audiences",
        &cases,
        |(audience, path, ..)| format!("a token for {audience} at {path}"),
        |(.., right, status)| (right != status).then(|| status.to_string()),
    );
}

#[tokio::test]
async fn without_an_audience_of_its_own_signet_accepts_only_tokens_without_one() {
    let app = TestApp::with(&[("JWT__AUDIENCES", ORDERS)]).await;
    let ann = app.user().await;
    assert!(take_apart(&ann.access).claims.get("aud").is_none());
    let body = json!({"refresh_token": ann.refresh, "audience": ORDERS});
    let orders = app.bearer(app.anon().post("/auth/refresh-access", &body).await.string("access_token"));
    assert_eq!((app.verify(&ann.access).await, orders.get("/auth/verify").await.status), (200, 401));
    let asked = format!("/auth/verify?audience={ORDERS}");
    assert_eq!((ann.actor.get(&asked).await.status, orders.get(&asked).await.status), (401, 200));
}

#[tokio::test]
async fn an_audience_that_is_not_configured_is_refused() {
    let app = app("false").await;
    let ann = app.user().await;
    for unknown in ["https://other.example.com", "", "https://orders.example.com/", "HTTPS://orders.example.com"] {
        let signin = json!({"email": ann.email, "password": PASSWORD, "audience": unknown});
        let refresh = json!({"refresh_token": ann.refresh, "audience": unknown});
        for (path, body) in [("/auth/signin", signin), ("/auth/refresh-access", refresh)] {
            let reply = app.anon().post(path, &body).await;
            assert_eq!((reply.status, reply.pointers()), (400, vec!["/audience"]), "{path} {unknown:?}");
        }
        let reply = ann.actor.get(&format!("/auth/verify?audience={unknown}")).await;
        assert_eq!((reply.status, reply.pointers()), (400, vec!["/audience"]), "{unknown:?}");
    }
    for query in ["audienc=x", &format!("audience={SIGNET}&audience={SIGNET}")] {
        assert_eq!(ann.actor.get(&format!("/auth/verify?{query}")).await.status, 400, "{query}");
    }
    let body = json!({"email": ann.email, "password": PASSWORD, "audience": [ORDERS]});
    assert_eq!(app.anon().post("/auth/signin", &body).await.pointers(), ["/audience"]);
}

/// Every retry gets the same token for the same audience; each audience has its own `jti`.
#[tokio::test]
async fn a_retry_gets_the_same_token_for_the_same_audience() {
    let app = app("true").await;
    let ann = app.user().await;
    let refresh = async |audience: Option<&str>| {
        let body = json!({"refresh_token": ann.refresh, "audience": audience});
        let reply = app.anon().post("/auth/refresh-access", &body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        (claims(&reply), take_apart(reply.string("refresh_token")).claims)
    };
    let asked = [Some(ORDERS), Some(INVOICES), Some(SIGNET), None];
    let mut first = Vec::new();
    for audience in asked {
        first.push(refresh(audience).await);
    }
    app.advance(5);
    for (audience, first) in asked.iter().zip(&first) {
        assert_eq!(&refresh(*audience).await, first, "{audience:?}");
    }
    let jti = |place: usize| first[place].0["jti"].as_str().unwrap().to_owned();
    assert_eq!(jti(2), jti(3), "jwt.audience is the default");
    assert!(jti(0) != jti(1) && jti(0) != jti(2) && jti(1) != jti(2));
    assert!(first.iter().all(|(_, refresh)| *refresh == first[0].1), "all have the same refresh token");
    let ended = app.sign_out(&ann.refresh).await;
    assert_eq!(ended.status, 204);
}
