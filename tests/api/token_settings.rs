//! The settings of `[jwt]`, and the custom claims of users

use crate::support::{PASSWORD, TestApp, all, all_replies, email, token::take_apart};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn settings_change_names_lifetimes_and_header_of_tokens() {
    let app = TestApp::with(&[
        ("JWT__ACCESS_TOKEN_NAME", "access"),
        ("JWT__REFRESH_TOKEN_NAME", "refresh"),
        ("JWT__ACCESS_TOKEN_LIFETIME", "1m"),
        ("JWT__REFRESH_TOKEN_LIFETIME", "2h"),
        ("JWT__SESSION_LIFETIME", "2h"),
        ("JWT__ISSUER", "https://id.example.com"),
        ("JWT__AUDIENCE", "shop"),
        ("JWT__AUTHORIZATION_HEADER", "X-Token"),
        ("JWT__AUTH_HEADER_TYPES", "JWT, Token"),
    ])
    .await;
    let ann = email();
    app.create(&ann).await;
    let reply = app.try_sign_in(&ann, PASSWORD).await;
    assert_eq!((&reply.json["expires_in"], &reply.json["refresh_expires_in"]), (&json!(60), &json!(7200)));
    let access = reply.json["access"].as_str().expect("the configured name");
    let claims = take_apart(access).claims;
    assert_eq!(
        (&claims["token_type"], &claims["iss"], &claims["aud"]),
        (&json!("access"), &json!("https://id.example.com"), &json!("shop"))
    );
    for (header, value, status) in [
        ("x-token", format!("JWT {access}"), 200),
        ("X-Token", format!("token {access}"), 200),
        ("authorization", format!("Bearer {access}"), 401),
        ("x-token", format!("Bearer {access}"), 401),
    ] {
        let reply =
            app.anon().send(reqwest::Method::GET, "/auth/users/me", |request| request.header(header, &value)).await;
        assert_eq!(reply.status, status, "{header}: {value}");
    }
    let refreshed = app.refresh(reply.string("refresh")).await;
    assert!(refreshed.json["access"].is_string(), "{refreshed:?}");
    assert!(
        app.anon().get("/openapi.json").await.json["components"]["schemas"]["TokenPair"]["properties"]["access"]
            .is_object()
    );
}

#[tokio::test]
async fn token_names_apply_to_replies_the_token_type_claim_and_the_document() {
    let app = TestApp::with(&[
        ("JWT__ACCESS_TOKEN_NAME", "access"),
        ("JWT__REFRESH_TOKEN_NAME", "refresh"),
        ("JWT__ROTATE_REFRESH_TOKENS", "true"),
    ])
    .await;
    let email = email();
    app.create(&email).await;
    let signed_in = app.try_sign_in(&email, PASSWORD).await.json;
    let refreshed = app.refresh(signed_in["refresh"].as_str().unwrap()).await.json;
    for (reply, schema) in [(&signed_in, "TokenPair"), (&refreshed, "AccessToken")] {
        let (access, refresh) = (reply["access"].as_str().unwrap(), reply["refresh"].as_str().unwrap());
        assert_eq!(take_apart(access).claims["token_type"], "access");
        assert_eq!(take_apart(refresh).claims["token_type"], "refresh");
        assert_eq!(app.verify(access).await, 200);
        let document = app.anon().get("/openapi.json").await.json;
        let members = document["components"]["schemas"][schema]["properties"].as_object().unwrap().clone();
        let members: Vec<&String> = members.keys().collect();
        assert_eq!(members, reply.as_object().unwrap().keys().collect::<Vec<_>>(), "{schema}");
    }
}

#[tokio::test]
async fn settings_choose_the_token_header_and_its_schemes() {
    let app = TestApp::with(&[("JWT__AUTHORIZATION_HEADER", "X-Auth"), ("JWT__AUTH_HEADER_TYPES", "JWT,Token")]).await;
    let ann = app.user().await;
    let rows = [
        ("x-auth", "JWT", 200),
        ("X-AUTH", "jwt", 200),
        ("x-auth", "Token", 200),
        ("x-auth", "Bearer", 401),
        ("authorization", "JWT", 401),
        ("authorization", "Bearer", 401),
    ];
    let fault = async |(header, scheme, expected): &(&'static str, &str, u16)| {
        let send = |request: reqwest::RequestBuilder| request.header(*header, format!("{scheme} {}", ann.access));
        let status = app.anon().send(Method::GET, "/auth/users/me", send).await.status;
        (status != *expected).then(|| status.to_string())
    };
    all_replies("headers and schemes", rows, |(header, scheme, _)| format!("{header}: {scheme}"), fault).await;
    let signed_in = app.try_sign_in(&ann.email, PASSWORD).await.json;
    assert_eq!(signed_in["token_type"], "JWT", "`token_type` names a scheme that the service accepts");
    let components = &app.anon().get("/openapi.json").await.json["components"];
    for schema in ["TokenPair", "AccessToken"] {
        assert_eq!(components["schemas"][schema]["properties"]["token_type"]["example"], "JWT");
    }
    let scheme = &components["securitySchemes"]["bearer"];
    assert_eq!(
        (&scheme["type"], &scheme["in"], &scheme["name"]),
        (&json!("apiKey"), &json!("header"), &json!("X-Auth"))
    );
    let scheme =
        &TestApp::start().await.anon().get("/openapi.json").await.json["components"]["securitySchemes"]["bearer"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&json!("http"), &json!("bearer")));
}

#[tokio::test]
async fn settings_choose_the_lifetimes() {
    let app = TestApp::with(&[
        ("JWT__ACCESS_TOKEN_LIFETIME", "90s"),
        ("JWT__REFRESH_TOKEN_LIFETIME", "2h"),
        ("JWT__SESSION_LIFETIME", "3h"),
        ("JWT__LEEWAY", "10s"),
    ])
    .await;
    let ann = app.user().await;
    let length = |token: &str| {
        let claims = take_apart(token).claims;
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
    };
    assert_eq!((length(&ann.access), length(&ann.refresh)), (90, 7200));
    let reply = app.try_sign_in(&ann.email, PASSWORD).await.json;
    assert_eq!((&reply["expires_in"], &reply["refresh_expires_in"]), (&json!(90), &json!(7200)));
    app.advance(90 + 9);
    assert_eq!(app.verify(&ann.access).await, 200, "within the leeway");
    app.advance(1);
    assert_eq!(app.verify(&ann.access).await, 401);
    app.advance(7200 - 101);
    assert_eq!(app.refresh(&ann.refresh).await.status, 200);
    app.advance(11);
    assert_eq!(app.refresh(&ann.refresh).await.status, 401);
}

#[tokio::test]
async fn the_issuer_defaults_to_the_public_url() {
    let address = ("SERVER__PUBLIC_URL", "https://id.example.com");
    for (settings, issuer) in [
        (vec![], "signet"),
        (vec![address], "https://id.example.com"),
        (vec![address, ("JWT__ISSUER", "another issuer")], "another issuer"),
    ] {
        let app = TestApp::with(&settings).await;
        let ann = app.user().await;
        for token in [&ann.access, &ann.refresh] {
            assert_eq!(take_apart(token).claims["iss"], issuer);
        }
        assert_eq!((app.verify(&ann.access).await, app.refresh(&ann.refresh).await.status), (200, 200));
    }
}

#[tokio::test]
async fn settings_add_claims_to_access_tokens() {
    for (field, value) in [("id", "id"), ("email", "email"), ("username", "username")] {
        let app = TestApp::with(&[
            ("JWT__JTI_CLAIM", "token_id"),
            ("JWT__USER_ID_CLAIM", "user_id"),
            ("JWT__USER_ID_FIELD", field),
        ])
        .await;
        let ann = app.user().await;
        let claims = take_apart(&ann.access).claims;
        let me = ann.actor.get("/auth/users/me").await.json;
        let expected = if value == "id" { json!(ann.id.to_string()) } else { me[value].clone() };
        assert_eq!(claims["user_id"], expected);
        assert_eq!(
            (&claims["token_id"], &claims["sub"]),
            (&claims["jti"], &json!(ann.id.to_string())),
            "`jti` and `sub` stay"
        );
        let refresh = take_apart(&ann.refresh).claims;
        assert!(
            refresh["user_id"].is_null() && refresh["token_id"].is_null(),
            "refresh tokens get no additional claim"
        );
    }
}

#[tokio::test]
async fn custom_claims_appear_at_the_next_refresh_and_replace_no_other_claim() {
    let app = TestApp::with(&[("JWT__USER_ID_CLAIM", "user_id"), ("JWT__ROTATE_REFRESH_TOKENS", "true")]).await;
    let ann = app.user().await;
    let plain = take_apart(&ann.access).claims;
    let own = json!({
        "tenant": "a", "quota": 7, "ratio": 0.5, "nested": {"deep": [1, null, true]}, "ünï": "cödé", "": "nameless",
        "sub": "1", "iss": "evil", "exp": 9_999_999_999_i64, "iat": 0, "jti": "x", "sid": "x", "aud": "evil",
        "roles": ["superuser"], "token_type": "refresh_token", "client_id": "evil", "preferred_username": "root",
        "user_id": "1", "nbf": 0, "scope": "admin", "gen": 1, "cnf": {}, "act": {"sub": "1"}, "azp": "evil",
    });
    let set = format!("UPDATE users SET claims = '{own}' WHERE id = {}", ann.id);
    app.database.execute(&set).await;
    assert_eq!(app.verify(&ann.access).await, 200);
    app.advance(1);
    let refreshed = app.refresh(&ann.refresh).await.json;
    let token = refreshed["access_token"].as_str().unwrap();
    let mut claims = take_apart(token).claims;
    for name in ["tenant", "quota", "ratio", "nested", "ünï", ""] {
        assert_eq!(claims[name], own[name], "{name}");
        claims.as_object_mut().unwrap().remove(name);
    }
    let names = |claims: &Value| claims.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&claims), names(&plain), "no other claim is added");
    for name in ["sub", "iss", "sid", "roles", "token_type", "client_id", "preferred_username", "user_id"] {
        assert_eq!(claims[name], plain[name], "{name}");
    }
    assert_eq!(app.verify(token).await, 200);
    assert!(ann.actor.get("/auth/users/me").await.json["claims"].is_null(), "the reply does not contain the claims");
    assert_eq!(app.refresh(&ann.refresh).await.json, refreshed, "a retry gets the same reply");

    // A token with the longest claims that the database accepts is still accepted.
    let longest = json!({ "text": "x".repeat(4096 - r#"{"text":""}"#.len()) }).to_string();
    app.database.execute(&format!("UPDATE users SET claims = '{longest}' WHERE id = {}", ann.id)).await;
    let long = app.sign_in(&ann.email).await.access;
    assert!(long.len() > 5_000 && app.verify(&long).await == 200, "{} bytes", long.len());
}

/// With any claims that the database accepts, the user can sign in and the token verifies.
#[tokio::test]
async fn hostile_custom_claims_never_prevent_a_sign_in() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let deep = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
    let rows = [
        deep(100),
        deep(126),
        deep(127),
        deep(128),
        deep(900),
        r#"{"a":1,"a":2}"#.to_owned(),
        r#"{"a":1e999}"#.to_owned(),
        r#"{"a":1e308,"b":-0.0,"c":18446744073709551616,"d":0.1}"#.to_owned(),
        r#"{"__proto__":{"admin":true},"constructor":1}"#.to_owned(),
        r#"{"SUB":"1","Iss":"evil","eхp":1,"exp ":1,"\u0065xp":1}"#.to_owned(),
        r#"{"a":"\u0000\ud83d\ude00\u2028"}"#.to_owned(),
        r#" { "a" : "spaces" } "#.to_owned(),
    ];
    let (mut replies, plain) = (Vec::new(), take_apart(&ann.access).claims);
    for claims in rows {
        if app.database.try_execute(&format!("UPDATE users SET claims = '{claims}'")).await {
            let again = app.sign_in(&ann.email).await;
            let token = take_apart(&again.access).claims;
            let is_same = ["sub", "iss", "roles", "token_type"].iter().all(|name| token[name] == plain[name]);
            let has_lifetime = token["exp"].as_i64().unwrap() - token["iat"].as_i64().unwrap() == 300;
            replies.push((claims, app.verify(&again.access).await, is_same && has_lifetime));
        }
    }
    assert!(replies.len() > 8);
    all(
        "hostile claims",
        &replies,
        |(claims, ..)| claims.chars().take(40).collect(),
        |(_, status, is_same)| (*status != 200 || !is_same).then(|| status.to_string()),
    );
}

#[tokio::test]
async fn the_database_refuses_custom_claims_that_are_not_an_object() {
    let app = TestApp::start().await;
    app.user().await;
    for claims in ["", "[]", "1", "null", "{", "not json", &format!("{{\"a\":\"{}\"}}", "x".repeat(4096))] {
        let update = format!("UPDATE users SET claims = '{claims}'");
        assert!(!app.database.try_execute(&update).await, "{claims:.20}");
    }
}

/// Some numbers are short in the database and long in a token. A user whose tokens exceed the accepted length could not
/// use the service.
#[tokio::test]
async fn custom_claims_too_long_for_a_token_are_left_out() {
    let app = TestApp::start().await;
    let ann = app.user().await;
    let own = format!("{{\"x\":[{}]}}", ["1e15"; 810].join(","));
    app.database.execute(&format!("UPDATE users SET claims = '{own}' WHERE id = {}", ann.id)).await;
    let again = app.sign_in(&ann.email).await;
    assert_eq!(app.verify(&again.access).await, 200);
    assert!(take_apart(&again.access).claims["x"].is_null());
}

#[tokio::test]
async fn access_tokens_have_the_type_of_the_setting() {
    let app = TestApp::with(&[("JWT__ACCESS_TOKEN_TYPE", "JWT")]).await;
    let ann = app.user().await;
    assert_eq!(take_apart(&ann.access).header["typ"], "JWT");
    assert_eq!(app.verify(&ann.access).await, 200);
    assert_eq!(app.bearer(&ann.refresh).get("/auth/verify").await.code(), "wrong-token-type");
    let app = app.restart(&[]).await;
    assert_eq!(app.verify(&ann.access).await, 401, "the old type is refused");
    let renewed = app.refresh(&ann.refresh).await.string("access_token").to_owned();
    assert_eq!((&take_apart(&renewed).header["typ"], app.verify(&renewed).await), (&json!("at+jwt"), 200));
}
