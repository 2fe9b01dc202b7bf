//! `/auth/api-keys`, and the exchange of a key for access tokens

use crate::support::{PASSWORD, Reply, SignedIn, TestApp, all, eventually, token::take_apart};
use reqwest::Method;
use serde_json::{Value, json};
use signet::{
    domain::{Password, Timestamp, UserId},
    storage::{SignOutScope, Snapshot},
};

async fn make(user: &SignedIn, more: Value) -> Reply {
    let mut body = json!({"name": "nightly export", "password": PASSWORD});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    user.actor.post("/auth/api-keys", &body).await
}

async fn key(user: &SignedIn) -> (String, String) {
    let reply = make(user, json!({})).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    (reply.string("id").to_owned(), reply.string("key").to_owned())
}

async fn exchange(app: &TestApp, key: &str) -> Reply {
    app.anon().post("/auth/refresh-access", &json!({"api_key": key})).await
}

#[tokio::test]
async fn a_key_is_shown_once_and_gives_access_tokens() {
    let app = TestApp::with(&[("JWT__ROTATE_REFRESH_TOKENS", "true")]).await;
    let ann = app.user().await;
    let made = make(&ann, json!({"expires_in": 3600})).await;
    assert_eq!(made.status, 201);
    let (id, key) = (made.string("id"), made.string("key"));
    assert!(key.starts_with("sgn_") && key.len() == 53, "{key}");
    let listed = ann.actor.get("/auth/api-keys").await;
    let mut without_secret = made.json.clone();
    without_secret.as_object_mut().unwrap().remove("key");
    assert_eq!(listed.json, json!([without_secret]));
    assert!(listed.json[0]["last_used_at"].is_null() && listed.json[0]["expires_at"].is_string());

    for _ in 0..3 {
        let reply = exchange(&app, key).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let members: Vec<&String> = reply.json.as_object().unwrap().keys().collect();
        assert_eq!(members, ["access_token", "expires_in", "token_type"], "nothing rotates");
        let token = reply.string("access_token");
        assert_eq!(take_apart(token).claims["sid"], id);
        assert_eq!(app.bearer(token).get("/auth/users/me").await.json["id"], ann.id);
        assert_eq!(app.verify(token).await, 200);
    }
    assert!(ann.actor.get("/auth/api-keys").await.json[0]["last_used_at"].is_string());
    assert_eq!(app.bearer(key).get("/auth/users/me").await.code(), "invalid-token", "a key is not an access token");
    let stored = app.database.value("SELECT COUNT(*) || '' FROM api_keys WHERE length(secret_sha256) = 32").await;
    assert_eq!(stored, "1");
}

#[tokio::test]
async fn a_deleted_key_and_its_tokens_are_refused_on_every_replica() {
    let app = TestApp::start().await;
    let replica = app.replica(&[]).await;
    let (ann, bob) = (app.user().await, app.user().await);
    let (id, key) = key(&ann).await;
    let token = exchange(&app, &key).await.string("access_token").to_owned();
    let path = format!("/auth/api-keys/{id}");
    assert_eq!(bob.actor.delete(&path).await.status, 404, "another user's");
    assert_eq!(ann.actor.delete("/auth/api-keys/x").await.status, 404);
    assert_eq!(ann.actor.delete(&path).await.status, 204);
    assert_eq!((app.verify(&token).await, app.bearer(&token).get("/auth/users/me").await.status), (401, 401));
    eventually(401, async || replica.verify(&token).await).await;
    assert_eq!(exchange(&app, &key).await.code(), "invalid-token");
    assert_eq!(ann.actor.delete(&path).await.status, 404);
    assert_eq!((app.verify(&ann.access).await, ann.actor.get("/auth/api-keys").await.json), (200, json!([])));
}

#[tokio::test]
async fn no_token_outlives_its_key() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let made = make(&ann, json!({"expires_in": 100})).await;
    let reply = exchange(&app, made.string("key")).await;
    assert_eq!(reply.json["expires_in"], 100);
    app.advance(99);
    assert_eq!(app.verify(reply.string("access_token")).await, 200);
    assert_eq!(exchange(&app, made.string("key")).await.json["expires_in"], 1);
    app.advance(1);
    assert_eq!(app.verify(reply.string("access_token")).await, 401);
    assert_eq!(exchange(&app, made.string("key")).await.code(), "invalid-token");
    assert_eq!(ann.actor.get("/auth/api-keys").await.status, 200);
}

#[tokio::test]
async fn a_key_needs_the_password_and_a_place_below_the_limit() {
    let app = TestApp::with(&[("USERS__MAX_API_KEYS", "2")]).await;
    let ann = app.user().await;
    assert_eq!(make(&ann, json!({"password": "a wrong password"})).await.code(), "invalid-credentials");
    assert_eq!(app.anon().post("/auth/api-keys", &json!({"name": "a", "password": PASSWORD})).await.status, 401);
    let (first, _) = key(&ann).await;
    assert_eq!(make(&ann, json!({"expires_in": 10})).await.status, 201);
    assert_eq!(make(&ann, json!({})).await.code(), "conflict");
    app.advance(10);
    assert_eq!(make(&ann, json!({})).await.status, 201, "an expired key does not count");
    assert_eq!(make(&ann, json!({})).await.code(), "conflict");
    assert_eq!(ann.actor.delete(&format!("/auth/api-keys/{first}")).await.status, 204);
    assert_eq!(make(&ann, json!({})).await.status, 201, "a deleted key does not count");
}

#[tokio::test]
async fn the_limit_holds_for_requests_at_the_same_time() {
    let app = TestApp::with(&[("USERS__MAX_API_KEYS", "3"), ("PASSWORDS__HASH_THREADS", "4")]).await;
    let ann = app.user().await;
    let replies = futures_util::future::join_all((0..12).map(|_| make(&ann, json!({})))).await;
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![201; 3], vec![409; 9]].concat());
}

#[tokio::test]
async fn a_key_with_an_audience_gives_tokens_for_that_one_only() {
    let (orders, invoices) = ("https://orders.example.com", "https://invoices.example.com");
    let app = TestApp::with(&[("JWT__AUDIENCES", &format!("{orders},{invoices}"))]).await;
    let ann = app.user().await;
    assert_eq!(make(&ann, json!({"audience": "https://x"})).await.pointers(), ["/audience"]);
    let bound = make(&ann, json!({"audience": orders})).await;
    assert_eq!(bound.json["audience"], orders);
    let (_, free) = key(&ann).await;
    let exchange = async |key: &str, audience: Option<&str>| {
        let reply = app.anon().post("/auth/refresh-access", &json!({"api_key": key, "audience": audience})).await;
        let aud = reply.json["access_token"].as_str().map(|token| take_apart(token).claims["aud"].clone());
        (reply.status, aud.unwrap_or_default())
    };
    let bound = bound.string("key");
    assert_eq!(exchange(bound, None).await, (200, json!(orders)));
    assert_eq!(exchange(bound, Some(orders)).await, (200, json!(orders)));
    assert_eq!(exchange(bound, Some(invoices)).await.0, 400);
    assert_eq!(exchange(&free, None).await, (200, Value::Null));
    assert_eq!(exchange(&free, Some(invoices)).await, (200, json!(invoices)));
    assert_eq!(exchange(&free, Some("https://x")).await.0, 400);
}

/// If staff sign a user out while a key is being made, the key must not remain.
#[tokio::test]
async fn a_sign_out_by_staff_ends_keys_that_are_being_made() {
    let app = TestApp::with(&[("PASSWORDS__HASH_THREADS", "2")]).await;
    let staff = app.staff().await;
    let (mut made, mut alive) = (0, 0);
    for _ in 0..12 {
        let user = app.user().await;
        let path = format!("/auth/users/{}/sessions", user.id);
        let makes = futures_util::future::join_all((0..4).map(|_| make(&user, json!({}))));
        let (keys, ended) = tokio::join!(makes, staff.actor.delete(&path));
        assert_eq!(ended.status, 204);
        for key in keys.iter().filter(|key| key.status == 201) {
            made += 1;
            alive += usize::from(exchange(&app, key.string("key")).await.status == 200);
        }
    }
    println!("keys made during a sign-out by staff: {made}, alive after it: {alive}");
    assert_eq!(alive, 0);
}

/// What ends a user's keys for good, and what does not.
#[tokio::test]
async fn keys_end_with_the_account_and_outlast_a_change_of_password() {
    let app = &TestApp::start().await;
    let root = app.superuser().await;
    let admin = app.user_admin().await;
    let context = || Timestamp(app.now()).into();
    let all_users = |_: &Snapshot| Ok(());
    let mut rows = Vec::new();
    for name in [
        "own password",
        "signout-all",
        "deactivated",
        "deleted",
        "set by a superuser",
        "sessions ended by staff",
        "signet user sign-out",
        "signet user set-password",
    ] {
        let user = app.user().await;
        let (_, key) = key(&user).await;
        let token = exchange(app, &key).await.string("access_token").to_owned();
        let (path, id) = (format!("/auth/users/{}", user.id), UserId(user.id));
        let password = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
        let new = json!({"new_password": "another horse battery"});
        let status = match name {
            "own password" => user.actor.post("/auth/password", &password).await.status,
            "signout-all" => user.actor.send(Method::POST, "/auth/signout-all", |request| request).await.status,
            "deactivated" => {
                root.actor.patch(&path, &json!({"is_active": false})).await;
                root.actor.patch(&path, &json!({"is_active": true})).await.status
            }
            "deleted" => root.actor.delete(&path).await.status,
            "set by a superuser" => {
                root.actor.send(Method::PUT, &format!("{path}/password"), |request| request.json(&new)).await.status
            }
            "sessions ended by staff" => root.actor.delete(&format!("{path}/sessions")).await.status,
            "signet user sign-out" => {
                let scope = SignOutScope::SessionsAndApiKeys;
                admin.sign_out(id, scope, &context(), all_users).await.map_or(0, |_| 200)
            }
            _ => {
                let password = Password::attempt("another horse battery");
                admin.set_password(id, password, &context(), all_users).await.map_or(0, |_| 200)
            }
        };
        assert!((200..300).contains(&status), "{name}: {status}");
        let stays = ["own password", "signout-all"].contains(&name);
        eventually(if stays { 200 } else { 401 }, async || app.verify(&token).await).await;
        let seen = (exchange(app, &key).await.status, app.bearer(&token).get("/auth/users/me").await.status);
        rows.push((name, seen, if stays { (200, 200) } else { (401, 401) }));
    }
    all(
        "what ends API keys",
        &rows,
        |(name, ..)| (*name).to_owned(),
        |(_, seen, right)| (seen != right).then(|| format!("{seen:?}")),
    );
}

#[tokio::test]
async fn a_malformed_key_costs_no_query() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let (_, key) = key(&ann).await;
    app.database.execute("ALTER TABLE api_keys RENAME TO api_keys_away").await;
    let mistyped = format!("{}{}", &key[..52], if key.ends_with('0') { '1' } else { '0' });
    for wrong in ["", "sgn_", "x", &key[1..], &key[..52], &mistyped, &ann.refresh, &"0".repeat(10_000)] {
        let reply = exchange(&app, wrong).await;
        assert_eq!((reply.status, reply.code()), (401, "invalid-token"), "{wrong}");
    }
    // With SQLite a missing table is an internal error (500).
    if !app.database.is_sqlite() {
        assert_eq!(exchange(&app, &key).await.status, 503, "a well-formed key is looked up");
    }
}

#[tokio::test]
async fn invalid_requests_name_the_member() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let rows = [
        (json!({"name": ""}), "/name"),
        (json!({"name": "a".repeat(151)}), "/name"),
        (json!({"name": "a\u{202e}b"}), "/name"),
        (json!({"name": 1}), "/name"),
        (json!({"password": null}), "/password"),
        (json!({"expires_in": 0}), "/expires_in"),
        (json!({"expires_in": -1}), "/expires_in"),
        (json!({"expires_in": 315_360_001}), "/expires_in"),
        (json!({"expires_in": 1.5}), "/expires_in"),
        (json!({"expires_in": "3600"}), "/expires_in"),
        (json!({"expires_at": 1}), ""),
    ];
    for (more, pointer) in rows {
        let reply = make(&ann, more.clone()).await;
        assert_eq!((reply.status, reply.pointers()), (400, vec![pointer]), "{more}");
    }
    assert_eq!(make(&ann, json!({"expires_in": null, "audience": null})).await.status, 201, "null is absent");
    assert_eq!(make(&ann, json!({"expires_in": 315_360_000})).await.status, 201);
    let body = json!({"refresh_token": ann.refresh, "api_key": "x"});
    let reply = app.anon().post("/auth/refresh-access", &body).await;
    assert_eq!((reply.status, reply.pointers()), (400, vec!["/api_key"]));
    assert_eq!(app.anon().post("/auth/refresh-access", &json!({})).await.pointers(), ["/refresh_token"]);
    assert_eq!(app.anon().post("/auth/signout", &json!({"api_key": "x"})).await.status, 400);
}

#[tokio::test]
async fn the_audit_has_every_change_of_a_key() {
    let app = TestApp::start().await;
    let (root, ann) = (app.superuser().await, app.user().await);
    let (id, _) = key(&ann).await;
    make(&ann, json!({"password": "a wrong password"})).await;
    ann.actor.delete(&format!("/auth/api-keys/{id}")).await;
    let entries = root.actor.get(&format!("/auth/audit?user={}&limit=3", ann.id)).await.json;
    let entry = |entry: &Value| [entry["action"].clone(), entry["outcome"].clone(), entry["actor"].clone()];
    let seen: Vec<_> = entries.as_array().unwrap().iter().rev().map(entry).collect();
    let right = [("api-key-create", "ok"), ("api-key-create", "failed"), ("api-key-delete", "ok")];
    assert_eq!(seen, right.map(|(action, outcome)| [json!(action), json!(outcome), json!(ann.id)]));
}
