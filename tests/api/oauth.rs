//! `POST /oauth/token`, `POST /oauth/introspect`, `POST /oauth/revoke`

use crate::support::{
    PASSWORD, TestApp,
    actor::http_client,
    all,
    app::{SIGNING_KEY, TestClient},
    eventually,
    token::take_apart,
};
use reqwest::Method;
use serde_json::{Value, json};

const ORDERS: &str = "https://orders.example.com";
const INVOICES: &str = "https://invoices.example.com";
const REPORTS: &str = "https://reports.example.com";

/// A service with three audiences, and a client of two of them.
async fn start(more: &[(&str, &str)]) -> (TestApp, TestClient) {
    let audiences = format!("{ORDERS},{INVOICES},{REPORTS}");
    let app = TestApp::with(&[&[("JWT__AUDIENCES", audiences.as_str())], more].concat()).await;
    let client = app.client("orders:read orders:write", &[ORDERS, INVOICES]).await;
    (app, client)
}

#[tokio::test]
async fn a_client_gets_a_token_for_itself() {
    let (app, client) = start(&[]).await;
    let reply = client.actor.form("/oauth/token", &[("grant_type", "client_credentials")]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let members = json!({"token_type": "Bearer", "expires_in": 300, "scope": "orders:read orders:write"});
    let mut without_token = reply.json.clone();
    without_token.as_object_mut().unwrap().remove("access_token");
    assert_eq!(without_token, members);
    let token = reply.string("access_token");
    let claims = take_apart(token).claims;
    let named = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
    assert_eq!((named("sub"), named("client_id"), named("aud")), (client.id.clone(), client.id.clone(), ORDERS.into()));
    assert_eq!((named("scope"), named("token_type")), ("orders:read orders:write".into(), "access_token".into()));
    assert!(claims.get("sid").is_none() && claims.get("roles").is_none() && claims["jti"].is_string(), "{claims}");

    let verify = app.bearer(token).get(&format!("/auth/verify?audience={ORDERS}")).await;
    assert_eq!((verify.status, verify.header("x-auth-subject")), (200, client.id.as_str()));
    assert!(!verify.headers.contains_key("remote-user") && !verify.headers.contains_key("remote-groups"));
    let sent =
        client.actor.form("/oauth/token", &[("grant_type", "client_credentials"), ("scope", "orders:write")]).await;
    assert_eq!(take_apart(sent.string("access_token")).claims["scope"], "orders:write");
    let sent = [("grant_type", "client_credentials"), ("resource", INVOICES)];
    let sent = client.actor.form("/oauth/token", &sent).await;
    assert_eq!(take_apart(sent.string("access_token")).claims["aud"], INVOICES);
}

#[tokio::test]
async fn routes_for_users_refuse_the_token_of_a_client() {
    let app = TestApp::start().await;
    let client = app.client("", &[]).await;
    let reply = client.actor.form("/oauth/token", &[("grant_type", "client_credentials")]).await;
    assert!(reply.json.get("scope").is_none(), "a client without scopes: {reply:?}");
    let token = reply.string("access_token").to_owned();
    assert!(take_apart(&token).claims.get("aud").is_none(), "jwt.audience, which is not set");
    assert_eq!(app.verify(&token).await, 200);
    let bearer = app.bearer(&token);
    for path in ["/auth/users/me", "/auth/users", "/auth/sessions", "/auth/api-keys", "/auth/audit"] {
        assert_eq!(bearer.get(path).await.code(), "invalid-token", "{path}");
    }
    for (path, body) in [
        ("/auth/signout-all", json!({})),
        ("/auth/password", json!({"current_password": PASSWORD, "new_password": PASSWORD})),
        ("/auth/api-keys", json!({"name": "a", "password": PASSWORD})),
    ] {
        assert_eq!(bearer.post(path, &body).await.code(), "invalid-token", "{path}");
    }
    assert_eq!(app.refresh(&token).await.code(), "wrong-token-type");
    assert_eq!(app.sign_out(&token).await.code(), "invalid-token");
}

/// Tokens with the right signature, as another holder of the key could make them.
#[tokio::test]
async fn a_token_is_of_a_user_or_of_a_client_and_never_of_both() {
    let app = TestApp::start().await;
    let (ann, client) = (app.user().await, app.client("a", &[]).await);
    let of_client = client.actor.form("/oauth/token", &[("grant_type", "client_credentials")]).await;
    let sid = ann.sid();
    let other = format!("client_{}", "0".repeat(32));
    let rows = [
        (of_client.string("access_token"), json!({}), 200),
        (of_client.string("access_token"), json!({"sid": sid}), 401),
        (of_client.string("access_token"), json!({"roles": ["superuser"]}), 401),
        (of_client.string("access_token"), json!({"sub": other}), 401),
        (of_client.string("access_token"), json!({"sub": "1"}), 401),
        (of_client.string("access_token"), json!({"sub": "1", "client_id": "1"}), 401),
        (of_client.string("access_token"), json!({"client_id": "signet"}), 401),
        (&ann.access, json!({}), 200),
        (&ann.access, json!({"scope": "a"}), 401),
        (&ann.access, json!({"client_id": client.id}), 401),
        (&ann.access, json!({"sub": client.id}), 401),
        (&ann.access, json!({"sub": client.id, "client_id": client.id}), 401),
    ];
    let mut seen = Vec::new();
    for (token, changes, right) in rows {
        let mut parts = take_apart(token);
        parts.claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let status = app.verify(&parts.sign(SIGNING_KEY)).await;
        seen.push((changes, status, right));
    }
    all(
        "claims of users and clients",
        &seen,
        |(changes, ..)| changes.to_string(),
        |(_, status, right)| (status != right).then(|| status.to_string()),
    );
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_for_any_client() {
    for rotates in ["false", "true"] {
        let names = [("JWT__ACCESS_TOKEN_NAME", "token"), ("JWT__ROTATE_REFRESH_TOKENS", rotates)];
        let (app, client) = start(&names).await;
        let user = app.anon().post("/auth/create", &json!({"email": "ann@example.com", "password": PASSWORD})).await;
        let body = json!({"email": "ann@example.com", "password": PASSWORD});
        let refresh = app.anon().post("/auth/signin", &body).await.string("refresh_token").to_owned();
        let sent = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str()), ("resource", REPORTS)];
        let reply = client.actor.form("/oauth/token", &sent).await;
        assert_eq!((reply.status, &reply.json["token_type"]), (200, &json!("Bearer")), "fixed member names: {reply:?}");
        assert_eq!(reply.json.get("refresh_token").is_some(), rotates == "true");
        let claims = take_apart(reply.string("access_token")).claims;
        assert_eq!((&claims["client_id"], &claims["aud"]), (&json!("signet"), &json!(REPORTS)));
        assert_eq!(claims["sub"], user.json["id"].to_string());
        let retry = client.actor.form("/oauth/token", &sent).await;
        let jti = take_apart(retry.string("access_token")).claims["jti"].clone();
        assert_eq!(jti == claims["jti"], rotates == "true", "with rotation a retry gets the same pair");
        if rotates == "true" {
            app.advance(60);
            assert_eq!(client.actor.form("/oauth/token", &sent).await.json["error"], "invalid_grant", "reused");
        }
    }
}

/// Each request, and its error.
#[tokio::test]
async fn errors_are_those_of_the_rfcs() {
    let (app, client) = start(&[]).await;
    let ann = app.user().await;
    let (id, secret) = (client.id.as_str(), client.secret.as_str());
    let grant = ("grant_type", "client_credentials");
    let refresh = ("grant_type", "refresh_token");
    let long = "a".repeat(2000);
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[], "invalid_request"),
        (&[("grant_type", "")], "invalid_request"),
        (&[("grant_type", "password")], "unsupported_grant_type"),
        (&[("grant_type", "authorization_code"), ("code", "x")], "unsupported_grant_type"),
        (&[("grant_type", "CLIENT_CREDENTIALS")], "unsupported_grant_type"),
        (&[grant, grant], "invalid_request"),
        (&[grant, ("x", "1"), ("x", "2")], "invalid_request"),
        (&[grant, ("scope", "admin")], "invalid_scope"),
        (&[grant, ("scope", "orders:read admin")], "invalid_scope"),
        (&[grant, ("scope", "orders:read  orders:write")], "invalid_scope"),
        (&[grant, ("scope", &long)], "invalid_scope"),
        (&[grant, ("scope", "\"\\\u{e9}")], "invalid_scope"),
        (&[grant, ("resource", REPORTS)], "invalid_target"),
        (&[grant, ("resource", "https://x")], "invalid_target"),
        (&[grant, ("resource", "not a url")], "invalid_target"),
        (&[grant, ("resource", ORDERS), ("resource", INVOICES)], "invalid_target"),
        (&[grant, ("client_secret", secret)], "invalid_request"),
        (&[grant, ("client_id", id), ("client_secret", secret)], "invalid_request"),
        (&[grant, ("client_id", "client_other")], "invalid_request"),
        (&[refresh], "invalid_request"),
        (&[refresh, ("refresh_token", "x")], "invalid_grant"),
        (&[refresh, ("refresh_token", &ann.access)], "invalid_grant"),
        (&[refresh, ("refresh_token", &ann.refresh), ("scope", "orders:read")], "invalid_scope"),
        (&[refresh, ("refresh_token", &ann.refresh), ("resource", "https://x")], "invalid_target"),
    ];
    let mut seen = Vec::new();
    for (parameters, error) in rows {
        let reply = client.actor.form("/oauth/token", parameters).await;
        seen.push((parameters, *error, reply.string("error").to_owned()));
    }
    all(
        "errors of /oauth/token",
        &seen,
        |(parameters, ..)| format!("{parameters:?}"),
        |(_, right, error)| (right != error).then(|| error.clone()),
    );
    let ok = client.actor.form("/oauth/token", &[grant, ("client_id", id), ("unknown", "1"), ("scope", "")]).await;
    assert_eq!(ok.status, 200, "a repeated id, an unknown parameter and an empty one: {ok:?}");
    assert_eq!(app.refresh(&ann.refresh).await.status, 200, "no session has ended");
}

/// Client credentials must be right, and in one place only.
#[tokio::test]
async fn a_client_authenticates_by_basic_or_in_the_form() {
    let (app, client) = start(&[]).await;
    let (id, secret) = (client.id.as_str(), client.secret.as_str());
    let other = app.client("", &[]).await;
    let grant = ("grant_type", "client_credentials");
    let form = async |parameters: &[(&str, &str)]| app.anon().form("/oauth/token", parameters).await.status;
    let basic = async |id: &str, secret: &str| app.basic(id, secret).form("/oauth/token", &[grant]).await.status;
    let rows = [
        ("in the form", form(&[grant, ("client_id", id), ("client_secret", secret)]).await, 200),
        ("by Basic", basic(id, secret).await, 200),
        ("missing", form(&[grant]).await, 401),
        ("the id alone", form(&[grant, ("client_id", id)]).await, 401),
        ("the secret alone", form(&[grant, ("client_secret", secret)]).await, 401),
        ("a wrong secret in the form", form(&[grant, ("client_id", id), ("client_secret", "x")]).await, 401),
        ("a wrong secret", basic(id, &other.secret).await, 401),
        ("an empty secret", basic(id, "").await, 401),
        ("a secret that begins right", basic(id, &secret[..42]).await, 401),
        ("another client's id", basic(&other.id, secret).await, 401),
        ("an unknown id", basic(&format!("client_{}", "0".repeat(32)), secret).await, 401),
        ("no id", basic("", secret).await, 401),
        ("an id of another form", basic(&id.to_uppercase(), secret).await, 401),
        ("a NUL", basic("client_\0", "\0").await, 401),
    ];
    all(
        "credentials of clients",
        &rows,
        |(name, ..)| (*name).to_owned(),
        |(_, status, right)| (status != right).then(|| status.to_string()),
    );
    let in_url = format!("/oauth/token?client_id={id}&client_secret={secret}");
    let body = "grant_type=client_credentials";
    let of_type = "application/x-www-form-urlencoded";
    let send = |request: reqwest::RequestBuilder| request.header("content-type", of_type).body(body);
    assert_eq!(app.anon().send(Method::POST, &in_url, send).await.status, 401, "credentials in the URL are ignored");
    for (scheme, why) in
        [("Bearer x", "another scheme"), ("Basic !!!", "no base64"), ("Basic", "nothing"), ("Basic eA==", "no colon")]
    {
        let send = |request: reqwest::RequestBuilder| send(request).header("authorization", scheme);
        assert_eq!(app.anon().send(Method::POST, "/oauth/token", send).await.status, 401, "{why}");
    }
    let two = |request: reqwest::RequestBuilder| send(request).header("authorization", "Basic eA==");
    assert_eq!(client.actor.send(Method::POST, "/oauth/token", two).await.status, 401, "two headers");
}

#[tokio::test]
async fn requests_without_a_form_get_errors_of_oauth() {
    let (app, client) = start(&[]).await;
    let body = json!({"grant_type": "client_credentials"});
    let json = client.actor.post("/oauth/token", &body).await;
    assert_eq!((json.status, &json.json["error"]), (400, &json!("invalid_request")));
    for path in ["/oauth/token", "/oauth/introspect", "/oauth/revoke"] {
        let reply = client.actor.get(path).await;
        assert_eq!(
            (reply.status, reply.header("allow"), &reply.json["error"]),
            (405, "POST", &json!("invalid_request"))
        );
        let long = client.actor.form(path, &[("token", &"a".repeat(17_000))]).await;
        assert_eq!((long.status, &long.json["error"]), (413, &json!("invalid_request")));
    }
    assert_eq!(client.actor.get("/oauth/authorize").await.json["error"], "invalid_request");
    let address = format!("http://{}/%6fauth/token", app.address);
    let raw = http_client().build().unwrap().post(address).send().await.unwrap();
    assert_eq!(
        (raw.status().as_u16(), raw.headers()["content-type"].as_bytes()),
        (400, &b"application/json"[..]),
        "another spelling"
    );
}

/// A token of every kind, and whether it is active.
#[tokio::test]
async fn only_valid_access_tokens_are_active() {
    let (app, client) = start(&[]).await;
    let (ann, gone) = (app.user().await, app.user().await);
    let orders = json!({"refresh_token": ann.refresh, "audience": ORDERS});
    let orders = app.anon().post("/auth/refresh-access", &orders).await.string("access_token").to_owned();
    let of_client = client.actor.form("/oauth/token", &[("grant_type", "client_credentials")]).await;
    let key =
        ann.actor.post("/auth/api-keys", &json!({"name": "a", "password": PASSWORD})).await.string("key").to_owned();
    let of_key =
        app.anon().post("/auth/refresh-access", &json!({"api_key": key})).await.string("access_token").to_owned();
    app.sign_out(&gone.refresh).await;
    let altered = format!("{}x", &ann.access[..ann.access.len() - 1]);
    let rows = [
        ("an access token", ann.access.as_str(), true),
        ("for another audience", &orders, true),
        ("of a client", of_client.string("access_token"), true),
        ("of an API key", &of_key, true),
        ("a refresh token", &ann.refresh, false),
        ("signed out", &gone.access, false),
        ("an API key", &key, false),
        ("altered", &altered, false),
        ("no token", "x", false),
        ("three dots", "...", false),
        ("a long one", &"a.".repeat(5000), false),
    ];
    let introspect = async |token: &str| client.actor.form("/oauth/introspect", &[("token", token)]).await;
    let mut seen = Vec::new();
    for (name, token, active) in rows {
        let reply = introspect(token).await;
        let is_right = reply.status == 200
            && if active { reply.json["active"] == true } else { reply.json == json!({"active": false}) };
        seen.push((name, is_right, reply.text));
    }
    all(
        "introspected tokens",
        &seen,
        |(name, ..)| (*name).to_owned(),
        |(_, right, text)| (!right).then(|| text.clone()),
    );
    let reply = introspect(&ann.access).await;
    let mut claims = take_apart(&ann.access).claims;
    claims["active"] = true.into();
    claims["token_type"] = "Bearer".into();
    claims["username"] = ann.email.clone().into();
    assert_eq!(reply.json, claims);
    let hint = [("token", ann.access.as_str()), ("token_type_hint", "nonsense")];
    assert_eq!(client.actor.form("/oauth/introspect", &hint).await.json["active"], true, "a hint is ignored");
    assert_eq!(client.actor.form("/oauth/introspect", &[]).await.json["error"], "invalid_request");
    assert_eq!(app.anon().form("/oauth/introspect", &[("token", &ann.access)]).await.status, 401);
    app.advance(300);
    assert_eq!(introspect(&ann.access).await.json, json!({"active": false}), "expired");
}

/// Introspection answers from memory: the session of the token needs no row.
#[tokio::test]
async fn introspection_does_not_read_sessions() {
    let app = TestApp::with(&[("REVOCATION__POLL_INTERVAL", "1m")]).await;
    let (client, ann) = (app.client("", &[]).await, app.user().await);
    app.database.execute("UPDATE sessions SET revoked_at = 1").await;
    assert_eq!(client.actor.form("/oauth/introspect", &[("token", &ann.access)]).await.json["active"], true);
}

#[tokio::test]
async fn a_revoked_access_token_ends_alone_and_a_refresh_token_with_its_session() {
    let (app, client) = start(&[]).await;
    let replica = app.replica(&[]).await;
    let (root, ann) = (app.superuser().await, app.user().await);
    let revoke = async |token: &str| {
        let reply = client.actor.form("/oauth/revoke", &[("token", token)]).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, ""), "{reply:?}");
    };
    let second = app.refresh(&ann.refresh).await.string("access_token").to_owned();
    revoke(&ann.access).await;
    revoke(&ann.access).await;
    assert_eq!((app.verify(&ann.access).await, app.verify(&second).await), (401, 200));
    eventually(401, async || replica.verify(&ann.access).await).await;
    assert_eq!(client.actor.form("/oauth/introspect", &[("token", &ann.access)]).await.json, json!({"active": false}));
    assert_eq!(app.bearer(&second).get("/auth/users/me").await.status, 200);
    let of_client = client.actor.form("/oauth/token", &[("grant_type", "client_credentials")]).await;
    revoke(of_client.string("access_token")).await;
    let path = format!("/auth/verify?audience={ORDERS}");
    assert_eq!(app.bearer(of_client.string("access_token")).get(&path).await.status, 401);
    revoke(&ann.refresh).await;
    assert_eq!((app.verify(&second).await, app.refresh(&ann.refresh).await.status), (401, 401));
    for token in ["x", "...", "sgn_x", ""] {
        let reply = client.actor.form("/oauth/revoke", &[("token", token)]).await;
        assert_eq!(reply.status, if token.is_empty() { 400 } else { 200 }, "{token:?}");
    }
    let entries = root.actor.get("/auth/audit?limit=4").await.json;
    let seen: Vec<(&Value, &Value)> =
        entries.as_array().unwrap().iter().rev().map(|entry| (&entry["action"], &entry["subject"])).collect();
    let (ann, none) = (json!(ann.id), Value::Null);
    let actions = ["signin", "token-revoke", "token-revoke", "signout"].map(|action| json!(action));
    assert_eq!(seen, [(&actions[0], &ann), (&actions[1], &ann), (&actions[2], &none), (&actions[3], &ann)]);
}

#[tokio::test]
async fn a_deleted_client_is_refused_at_once_and_its_tokens_last() {
    let (app, client) = start(&[]).await;
    let token = client.actor.form("/oauth/token", &[("grant_type", "client_credentials")]).await;
    app.database.execute("DELETE FROM clients").await;
    assert_eq!(client.actor.form("/oauth/token", &[("grant_type", "client_credentials")]).await.status, 401);
    assert_eq!(client.actor.form("/oauth/introspect", &[("token", "x")]).await.status, 401);
    let path = format!("/auth/verify?audience={ORDERS}");
    assert_eq!(app.bearer(token.string("access_token")).get(&path).await.status, 200);
}

#[tokio::test]
async fn without_the_database_clients_get_temporarily_unavailable() {
    let (app, client) = start(&[]).await;
    if app.database.is_sqlite() {
        // With SQLite a missing table is an internal error (500).
        return;
    }
    app.database.execute("ALTER TABLE clients RENAME TO clients_away").await;
    for path in ["/oauth/token", "/oauth/introspect", "/oauth/revoke"] {
        let reply = client.actor.form(path, &[("token", "x"), ("grant_type", "client_credentials")]).await;
        assert_eq!((reply.status, &reply.json["error"]), (503, &json!("temporarily_unavailable")), "{path}");
    }
}

/// A client may act for many users, so only its failures are limited.
#[tokio::test]
async fn failures_of_clients_are_limited_by_address() {
    let limits = [("RATE_LIMIT__ENABLED", "true"), ("RATE_LIMIT__REFRESH_PER_ADDRESS", "2/h")];
    let (app, client) = start(&limits).await;
    let sent = [("grant_type", "refresh_token"), ("refresh_token", "x")];
    for _ in 0..5 {
        assert_eq!(client.actor.form("/oauth/token", &sent).await.json["error"], "invalid_grant");
    }
    let wrong = app.basic(&client.id, "x");
    for path in ["/oauth/token", "/oauth/introspect"] {
        assert_eq!(wrong.form(path, &sent).await.status, 401);
    }
    for path in ["/oauth/token", "/oauth/introspect", "/oauth/revoke"] {
        let reply = wrong.form(path, &sent).await;
        assert_eq!((reply.status, &reply.json["error"]), (429, &json!("temporarily_unavailable")), "{path}");
    }
    assert_eq!(wrong.get("/auth/revocations").await.code(), "rate-limited");
    assert_eq!(client.actor.form("/oauth/token", &sent).await.status, 400, "the right secret");
}
