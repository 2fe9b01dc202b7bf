//! `signet client`

use crate::support::process::{Service, run, text};
use serde_json::Value;

#[tokio::test]
async fn a_client_is_created_listed_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("SIGNET__JWT__AUDIENCES", "https://orders.example.com,https://b.example.com")];
    let signet = |arguments: &[&str]| run(folder.path(), &settings, arguments, "");
    let json = |arguments: &[&str]| -> Value {
        let output = signet(arguments);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    let created = json(&[
        "client",
        "create",
        "orders",
        "--scope",
        "orders:read",
        "--scope",
        "orders:write",
        "--audience",
        "https://orders.example.com",
        "--json",
    ]);
    let (id, secret) = (created["id"].as_str().unwrap(), created["secret"].as_str().unwrap());
    assert!(id.starts_with("client_") && secret.len() == 43, "{created}");
    let listed = signet(&["client", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["scopes"], serde_json::json!(["orders:read", "orders:write"]));
    assert!(!listed.to_string().contains(secret), "the secret is shown once");
    let plain = text(&signet(&["client", "list"]).stdout);
    assert!(plain.contains(id) && plain.contains("orders"), "{plain}");

    let service = Service::start(folder.path(), &settings);
    let grant = [("grant_type", "client_credentials")];
    assert_eq!(service.basic(id, secret).form("/oauth/token", &grant).await.status, 200);
    assert!(signet(&["client", "delete", id]).status.success());
    assert_eq!(service.basic(id, secret).form("/oauth/token", &grant).await.status, 401, "refused at once");
    assert_eq!(text(&signet(&["client", "list"]).stdout), "");
    let audit = text(&signet(&["audit", "tail"]).stdout);
    assert!(audit.contains("client-create") && audit.contains("client-delete"), "{audit}");
    println!("{audit}");
}

#[test]
fn invalid_arguments_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let unknown = format!("client_{}", "0".repeat(32));
    let rows: [(&[&str], &str); 7] = [
        (&["client", "create", ""], "name"),
        (&["client", "create", "a", "--audience", "https://x"], "jwt.audiences"),
        (&["client", "create", "a", "--scope", "a\"b"], "scopes"),
        (&["client", "create", "a", "--scope", "a  b"], "scopes"),
        (&["client", "create", "a\nb"], "name"),
        (&["client", "delete", "orders"], "client list"),
        (&["client", "delete", &unknown], "no client"),
    ];
    for (arguments, why) in rows {
        let output = run(folder.path(), &[], arguments, "");
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{arguments:?}: {said}");
    }
}
