//! `POST /auth/signin`

use crate::support::{
    PASSWORD, TestApp, all_replies,
    app::{settings, use_cases},
    token::take_apart,
};
use serde_json::{Value, json};
use signet::{
    auth::{SignIn, SignInSource},
    domain::{LoginName, Password, Timestamp},
    storage::Storage,
};

#[tokio::test]
async fn a_sign_in_returns_two_tokens_and_their_lifetimes() {
    let app = TestApp::start().await;
    app.create("ann@example.com").await;
    let reply = app.try_sign_in("ann@example.com", PASSWORD).await;
    assert_eq!(reply.status, 200);
    let members: Vec<&str> = reply.json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["access_token", "expires_in", "refresh_expires_in", "refresh_token", "token_type"]);
    assert_eq!(
        (&reply.json["token_type"], &reply.json["expires_in"], &reply.json["refresh_expires_in"]),
        (&json!("Bearer"), &json!(300), &json!(86400))
    );
}

#[tokio::test]
async fn tokens_have_the_claims_of_the_contract() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let (access, refresh) = (take_apart(&ann.access), take_apart(&ann.refresh));
    assert_eq!((&access.header["typ"], &access.header["alg"]), (&json!("at+jwt"), &json!("HS256")));
    assert_eq!((&refresh.header["typ"], &refresh.header["alg"]), (&json!("rt+jwt"), &json!("HS256")));
    assert_ne!(access.header["kid"], refresh.header["kid"]);
    let (sid, jti, now) = (&access.claims["sid"], &access.claims["jti"], app.now());
    assert_eq!(jti.as_str().unwrap().len(), 22, "128 bits in base64url");
    assert_eq!(
        access.claims,
        json!({
            "sub": ann.id.to_string(), "sid": sid, "jti": jti, "iat": now, "exp": now + 300, "iss": "signet", "client_id": "signet",
            "token_type": "access_token", "preferred_username": ann.email,
        })
    );
    assert_eq!(
        refresh.claims,
        json!({
            "sub": ann.id.to_string(), "sid": sid, "gen": 0, "iat": now, "exp": now + 86400, "iss": "signet", "token_type": "refresh_token",
        })
    );
    let again = app.sign_in(&ann.email).await;
    assert_ne!(take_apart(&again.access).claims["sid"], *sid, "each sign-in begins its own session");
}

#[tokio::test]
async fn email_and_username_sign_in_in_any_letter_case() {
    let app = TestApp::start().await;
    let body = json!({"email": "jos\u{e9}@example.com", "username": "Jos\u{e9}_1", "password": "caf\u{e9} au lait"});
    app.anon().post("/auth/create", &body).await;
    for body in [
        json!({"email": "JOSE\u{301}@example.com", "password": "caf\u{e9} au lait"}),
        json!({"username": "jose\u{301}_1", "password": "cafe\u{301} au lait"}),
        json!({"username": "JOS\u{c9}_1", "password": "caf\u{e9} au lait"}),
    ] {
        assert_eq!(app.anon().post("/auth/signin", &body).await.status, 200, "{body}");
    }
}

#[tokio::test]
async fn wrong_credentials_of_every_kind_get_the_same_reply() {
    let app = TestApp::start().await;
    let (ann, inactive) = (app.user().await, app.user().await);
    app.database.execute(&format!("UPDATE users SET is_active = FALSE WHERE id = {}", inactive.id)).await;
    let broken = app.user().await;
    app.database.execute(&format!("UPDATE users SET password_hash = '!' WHERE id = {}", broken.id)).await;
    let rows = [
        json!({"email": ann.email, "password": "wrong horse battery"}),
        json!({"email": ann.email, "password": ""}),
        json!({"email": ann.email, "password": PASSWORD.to_uppercase()}),
        json!({"email": ann.email, "password": format!("{PASSWORD} ")}),
        json!({"email": ann.email, "password": format!("{PASSWORD}\0")}),
        json!({"email": ann.email, "password": "a".repeat(257)}),
        json!({"email": ann.email, "password": "a".repeat(15_000)}),
        json!({"username": ann.email, "password": "wrong"}),
        json!({"email": inactive.email, "password": PASSWORD}),
        json!({"email": broken.email, "password": PASSWORD}),
        json!({"email": "nobody@example.com", "password": PASSWORD}),
        json!({"username": "nobody", "password": PASSWORD}),
        json!({"email": "", "password": ""}),
        json!({"email": "no address", "password": PASSWORD}),
        json!({"email": "a\0b@example.com", "password": PASSWORD}),
        json!({"username": "a\0b", "password": PASSWORD}),
        json!({"email": "' OR ''='", "password": "' OR ''='"}),
        json!({"email": "%", "password": PASSWORD}),
        json!({"email": format!("{} ", ann.email), "password": PASSWORD}),
        json!({"email": "\u{202e}\u{301}", "password": PASSWORD}),
        json!({"email": format!("{}@example.com", "a".repeat(10_000)), "password": PASSWORD}),
    ];
    let reply_to = async |body: &Value| {
        let mut reply = app.anon().post("/auth/signin", body).await;
        reply.json["request_id"] = Value::Null;
        reply
    };
    let first = reply_to(&rows[0]).await.json;
    assert_eq!(first["detail"], "Invalid credentials.");
    let fault = async |body: &Value| {
        let reply = reply_to(body).await;
        ((reply.status, &reply.json) != (401, &first)).then(|| format!("{} {}", reply.status, reply.text))
    };
    all_replies("wrong credentials", rows, Value::to_string, fault).await;
}

#[tokio::test]
async fn a_missing_or_mistyped_member_is_400() {
    let app = TestApp::start().await;
    let rows = [
        (json!({}), vec!["/email", "/password"]),
        (json!({"email": "a@b.cd"}), vec!["/password"]),
        (json!({"password": "a"}), vec!["/email"]),
        (json!({"email": null, "password": "a"}), vec!["/email"]),
        (json!({"email": 1, "password": "a"}), vec!["/email"]),
        (json!({"email": ["a@b.cd"], "password": "a"}), vec!["/email"]),
        (json!({"username": {"a": 1}, "password": "a"}), vec!["/username"]),
        (json!({"email": "a@b.cd", "password": 1}), vec!["/password"]),
        (json!({"email": "a@b.cd", "password": null}), vec!["/password"]),
        (json!({"email": "a@b.cd", "password": ["a"]}), vec!["/password"]),
        (json!({"email": "a@b.cd", "username": "a", "password": "a"}), vec!["/username"]),
        (json!({"email": "a@b.cd", "password": "a", "remember": true}), vec![""]),
        (json!({"email": "a@b.cd", "password": "a", "userId": 1}), vec![""]),
    ];
    let twice = r#"{"email":"a@b.cd","email":"c@d.ef","password":"a"}"#;
    let rows = rows.into_iter().map(|(body, pointers)| (body.to_string(), pointers));
    let fault = async |(body, pointers): &(String, Vec<&str>)| {
        let reply = app.anon().post_raw("/auth/signin", body.clone()).await;
        ((reply.status, &reply.pointers()) != (400, pointers)).then(|| reply.text.clone())
    };
    let rows = rows.chain([(twice.to_owned(), vec!["/email"])]);
    all_replies("sign-in bodies", rows, |(body, _)| body.clone(), fault).await;
}

#[tokio::test]
async fn a_sign_in_sets_last_login_and_stores_a_session() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    app.advance(100);
    let agent = |request: reqwest::RequestBuilder| {
        request.header("user-agent", "tests/1").json(&json!({"email": ann.email, "password": PASSWORD}))
    };
    let reply = app.anon().send(reqwest::Method::POST, "/auth/signin", agent).await;
    let me = app.bearer(reply.string("access_token")).get("/auth/users/me").await;
    assert_eq!(me.json["last_login"], signet::domain::Timestamp(app.now()).to_string());
    let sql = format!(
        "SELECT user_agent || ' ' || ip || ' ' || generation || ' ' || (expires_at - created_at) || ' ' || (absolute_expires_at - created_at) \
         FROM sessions WHERE created_at = {}",
        app.now()
    );
    assert_eq!(app.database.value(&sql).await, format!("tests/1 127.0.0.1 0 86400 {}", 30 * 86400));
}

#[tokio::test]
async fn a_password_is_stored_as_argon2id_and_a_token_not_at_all() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let hash = app.database.value(&format!("SELECT password_hash FROM users WHERE id = {}", ann.id)).await;
    assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
    let signatures = [&ann.access, &ann.refresh].map(|token| token.rsplit('.').next().unwrap());
    let columns = [
        ("users", "email username username_key password_hash first_name last_name"),
        ("sessions", "generation created_at rotated_at last_used_at expires_at absolute_expires_at user_agent ip"),
    ];
    for (table, columns) in columns {
        for column in columns.split(' ') {
            let sql = format!("SELECT COALESCE(CAST({column} AS TEXT), '') FROM {table} WHERE created_at > 0");
            let value = app.database.value(&sql).await;
            for secret in ["eyJ", PASSWORD, signatures[0], signatures[1]] {
                assert!(!value.contains(secret), "{table}.{column}: {value}");
            }
        }
    }
}

#[tokio::test]
async fn a_sign_in_rehashes_a_password_of_another_cost() {
    let app = TestApp::with(&[("PASSWORDS__ITERATIONS", "3")]).await;
    let ann = app.user().await;
    let before = app.database.value(&format!("SELECT password_hash FROM users WHERE id = {}", ann.id)).await;
    assert!(before.contains("m=8,t=3,p=1"), "{before}");
    let after = sign_in_at_another_cost(&app).await;
    assert!(after.contains("m=16,t=1,p=1"), "{after}");
    app.sign_in(&ann.email).await;
}

#[tokio::test]
async fn concurrent_sign_ins_succeed_while_the_password_is_rehashed() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let settings = settings(&app.database, &[("PASSWORDS__MEMORY_KIB", "16"), ("PASSWORDS__HASH_THREADS", "2")]);
    let auth = use_cases(&settings, Storage::open(&settings, 1).await.unwrap());
    let sign_in =
        || SignIn { login: LoginName::email(&ann.email), password: Password::attempt(PASSWORD), audience: None };
    let tries = (0..8)
        .map(|_| auth.sign_in(sign_in(), SignInSource { user_agent: None, context: Timestamp(app.now()).into() }));
    let tries = futures_util::future::join_all(tries).await;
    assert!(tries.iter().all(Result::is_ok), "{tries:?}");
}

/// The right password is accepted even if a concurrent sign-in replaces the stored hash.
#[tokio::test]
async fn a_password_change_succeeds_while_sign_ins_rehash_the_password() {
    let app = TestApp::start().await;
    let replica = app.replica(&[("PASSWORDS__MEMORY_KIB", "16"), ("PASSWORDS__HASH_THREADS", "2")]).await;
    for round in 0..5 {
        let ann = app.user().await;
        let body = serde_json::json!({"email": ann.email, "password": PASSWORD});
        let change = serde_json::json!({"current_password": PASSWORD, "new_password": "another good one"});
        let (caller, others) = (replica.bearer(&ann.access), replica.anon());
        let sign_ins = futures_util::future::join_all((0..3).map(|_| others.post("/auth/signin", &body)));
        let (changed, _) = futures_util::future::join(caller.post("/auth/password", &change), sign_ins).await;
        assert_eq!(changed.status, 204, "round {round}: {changed:?}");
    }
}

/// Signs in at another hash cost and returns the hash that is stored afterwards.
async fn sign_in_at_another_cost(app: &TestApp) -> String {
    let settings = settings(&app.database, &[("PASSWORDS__MEMORY_KIB", "16")]);
    let storage = Storage::open(&settings, 1).await.unwrap();
    let auth = use_cases(&settings, storage);
    let email = app.database.value("SELECT email FROM users").await;
    let sign_in = SignIn { login: LoginName::email(&email), password: Password::attempt(PASSWORD), audience: None };
    auth.sign_in(sign_in, SignInSource { user_agent: None, context: Timestamp(app.now()).into() }).await.unwrap();
    app.database.value("SELECT password_hash FROM users").await
}
