//! `GET /.well-known/oauth-authorization-server` and `GET /.well-known/openid-configuration`

use crate::support::{TestApp, all};
use serde_json::json;

const OAUTH: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

#[tokio::test]
async fn both_addresses_have_the_same_metadata() {
    let app = TestApp::with(&[("SERVER__PUBLIC_URL", "https://id.example.com"), ("JWT__ISSUER", "")]).await;
    let (oauth, openid) = (app.anon().get(OAUTH).await, app.anon().get(OPENID).await);
    assert_eq!((oauth.status, openid.status), (200, 200));
    assert_eq!(oauth.json, openid.json);
    assert_eq!(oauth.header("cache-control"), "public, max-age=60");
    let document = &oauth.json;
    let fixed = json!({
        "issuer": "https://id.example.com",
        "jwks_uri": "https://id.example.com/.well-known/jwks.json",
        "token_endpoint": "https://id.example.com/oauth/token",
        "introspection_endpoint": "https://id.example.com/oauth/introspect",
        "revocation_endpoint": "https://id.example.com/oauth/revoke",
        "grant_types_supported": ["refresh_token", "client_credentials"],
        "response_types_supported": ["none"],
        "id_token_signing_alg_values_supported": ["HS256"],
    });
    for (name, value) in fixed.as_object().unwrap() {
        assert_eq!(&document[name], value, "{name}");
    }
    assert!(document.get("scopes_supported").is_none(), "an empty array is left out");

    app.client("orders:write orders:read", &[]).await;
    app.client("orders:read", &[]).await;
    assert_eq!(app.anon().get(OPENID).await.json["scopes_supported"], json!(["orders:read", "orders:write"]));
}

#[tokio::test]
async fn without_an_absolute_url_there_is_no_metadata_and_the_reply_names_the_setting() {
    let app = TestApp::start().await;
    for path in [OAUTH, OPENID] {
        let reply = app.anon().get(path).await;
        assert_eq!(reply.status, 404);
        assert!(reply.string("detail").contains("server.public_url"), "{reply:?}");
    }
}

/// The issuer of the tokens, the prefix of the addresses, and the paths where the metadata is.
#[tokio::test]
async fn the_addresses_follow_the_issuer_and_the_base_path() {
    let inserted = "/.well-known/oauth-authorization-server/id";
    let rows = [
        ("https://example.com/", "", "https://example.com", vec![OAUTH, OPENID]),
        ("https://example.com/id", "", "https://example.com/id", vec![OAUTH, OPENID, inserted]),
        (
            "https://example.com/id/",
            "/id",
            "https://example.com/id",
            vec!["/id/.well-known/openid-configuration", "/id/.well-known/oauth-authorization-server", inserted],
        ),
        ("http://localhost:8000", "/id", "http://localhost:8000/id", vec!["/id/.well-known/openid-configuration"]),
    ];
    let mut faults = Vec::new();
    for (issuer, base_path, prefix, paths) in rows {
        let app = TestApp::with(&[("JWT__ISSUER", issuer), ("SERVER__BASE_PATH", base_path)]).await;
        for path in paths {
            let document = app.anon().get(path).await.json;
            let seen = (document["issuer"].clone(), document["jwks_uri"].clone());
            faults.push((issuer, path, seen, (json!(issuer), json!(format!("{prefix}/.well-known/jwks.json")))));
        }
    }
    all(
        "addresses of metadata",
        &faults,
        |(issuer, path, ..)| format!("{issuer} {path}"),
        |(.., seen, right)| (seen != right).then(|| format!("{seen:?}")),
    );
}

/// The key set and the metadata do not depend on the database.
#[tokio::test]
async fn metadata_does_not_need_the_database() {
    let app = TestApp::with(&[("SERVER__PUBLIC_URL", "https://id.example.com")]).await;
    app.client("orders:read", &[]).await;
    assert_eq!(app.anon().get(OAUTH).await.json["scopes_supported"], json!(["orders:read"]));
    app.database.execute("ALTER TABLE clients RENAME TO clients_away").await;
    let reply = app.anon().get(OAUTH).await;
    assert_eq!((reply.status, &reply.json["scopes_supported"]), (200, &json!(["orders:read"])), "as last read");
}
