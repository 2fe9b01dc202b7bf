//! `signet user`

use crate::support::{
    Reply, TestDatabase,
    process::{Service, run, text},
};
use serde_json::{Value, json};
use std::process::Output;
use tempfile::TempDir;

/// The command line of an operator, and the database that it uses.
struct Operator {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
    _database: TestDatabase,
}

impl Operator {
    async fn start() -> Self {
        let database = TestDatabase::create().await;
        let environment = vec![
            ("SIGNET__DATABASE__URL", database.url()),
            ("SIGNET__PASSWORDS__MEMORY_KIB", "8".to_owned()),
            ("SIGNET__PASSWORDS__ITERATIONS", "1".to_owned()),
        ];
        let operator = Self { folder: tempfile::tempdir().unwrap(), environment, _database: database };
        let output = operator.run(&["migrate"], "");
        assert!(output.status.success(), "{output:?}");
        operator
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        run(self.folder.path(), &self.environment(), arguments, input)
    }

    /// Runs a `user` command that succeeds, and returns the JSON that it prints.
    fn user(&self, arguments: &[&str], input: &str) -> Value {
        let output = self.run(&[&["user"], arguments, &["--json"]].concat(), input);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {output:?}"))
    }

    /// Runs a `user` command that fails, and returns its message.
    fn refused(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(&[&["user"], arguments].concat(), input);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        text(&output.stderr)
    }
}

#[tokio::test]
async fn the_operator_creates_changes_and_deletes_users() {
    let operator = Operator::start().await;
    let root = operator.user(&["create", "--superuser", "Root@Example.com"], "correct horse\n");
    assert_eq!(
        (&root["id"], &root["email"], &root["is_superuser"], &root["is_staff"]),
        (&json!(1), &json!("root@example.com"), &json!(true), &json!(true))
    );
    let ann = operator.user(
        &["create", "--email", "ann@example.com", "--username", "Ann", "--first-name", "Ann"],
        "correct horse\r\n",
    );
    assert_eq!((&ann["username"], &ann["first_name"], &ann["is_staff"]), (&json!("Ann"), &json!("Ann"), &json!(false)));
    for user in ["2", "ANN@example.com", "ann"] {
        assert_eq!(operator.user(&["show", user], "")["id"], 2, "{user}");
    }
    let list = text(&operator.run(&["user", "list"], "").stdout);
    assert_eq!(list, "1  root@example.com  root@example.com  active  superuser\n2  ann@example.com  Ann  active\n");
    assert_eq!(text(&operator.run(&["user", "list", "--json"], "").stdout).lines().count(), 2);

    assert!(operator.refused(&["create", "ann@example.com"], "correct horse\n").contains("e-mail already"));
    assert!(operator.refused(&["create", "other@example.com"], "short\n").contains("at least 8 characters"));
    assert!(operator.refused(&["create", "no address"], "correct horse\n").contains("ann@example.com"));
    assert!(operator.refused(&["show", "nobody"], "").contains("no user"));
    assert!(operator.refused(&["set-password", "ann"], "\n").contains("at least 8 characters"));

    let environment = operator.environment();
    let service = Service::start(operator.folder.path(), &environment);
    let sign_in = async |password: &str| {
        service.anon().post("/auth/signin", &json!({"username": "ann", "password": password})).await
    };
    let token = |reply: Reply| reply.string("access_token").to_owned();
    let me = async |token: &str| service.bearer(token).get("/auth/users/me").await.status;

    let before = token(sign_in("correct horse").await);
    operator.user(&["set-password", "ann"], "another horse\n");
    assert_eq!(
        (me(&before).await, sign_in("correct horse").await.status),
        (401, 401),
        "a new password ends every session"
    );
    let before = token(sign_in("another horse").await);
    assert_eq!(operator.user(&["deactivate", "2"], "")["is_active"], false);
    assert_eq!((me(&before).await, sign_in("another horse").await.status), (401, 401));
    assert_eq!(operator.user(&["activate", "2"], "")["is_active"], true);
    assert_eq!((me(&before).await, sign_in("another horse").await.status), (401, 200), "ended sessions stay ended");
    let before = token(sign_in("another horse").await);
    assert_eq!(operator.user(&["delete", "2"], "")["id"], 2);
    assert_eq!((me(&before).await, sign_in("another horse").await.status), (401, 401));
}

#[tokio::test]
async fn a_password_is_refused_as_an_argument() {
    let operator = Operator::start().await;
    for arguments in [
        &["user", "create", "a@b.cd", "--password", "correct horse"][..],
        &["user", "create", "a@b.cd", "correct horse"],
    ] {
        let output = operator.run(arguments, "");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[tokio::test]
async fn the_operator_updates_a_user_and_reads_the_audit() {
    let operator = Operator::start().await;
    operator.user(&["create", "--superuser", "root@example.com"], "correct horse\n");
    operator.user(&["create", "ann@example.com"], "correct horse\n");
    let claims = operator.folder.path().join("claims.json");
    std::fs::write(&claims, r#"{"plan": "pro"}"#).unwrap();
    let update = |arguments: &[&str]| operator.user(&[&["update"], arguments].concat(), "");
    let ann = update(&["ann@example.com", "--staff", "true", "--verified", "true", "--first-name", "Ann"]);
    assert_eq!(
        (&ann["is_staff"], &ann["is_verified"], &ann["first_name"]),
        (&json!(true), &json!(true), &json!("Ann"))
    );
    let ann = update(&["2", "--email", "Ann@New.example", "--claims", claims.to_str().unwrap()]);
    assert_eq!(
        (&ann["email"], &ann["username"], &ann["is_verified"], &ann["is_staff"]),
        (&json!("ann@new.example"), &json!("ann@new.example"), &json!(false), &json!(true)),
        "the username follows the e-mail, which is not verified"
    );
    let refused = |arguments: &[&str]| operator.refused(&[&["update"], arguments].concat(), "");
    assert!(refused(&["2", "--email", "root@example.com"]).contains("e-mail already exists"));
    assert!(refused(&["2", "--email", "no address"]).contains("ann@example.com"));
    assert!(refused(&["2", "--username", "root@example.com"]).contains("username must be"));
    assert!(refused(&["1", "--superuser", "false"]).contains("last active superuser"));
    assert!(operator.refused(&["deactivate", "1"], "").contains("last active superuser"));
    assert!(operator.refused(&["delete", "1"], "").contains("last active superuser"));
    assert!(refused(&["2", "--claims", "/nowhere.json"]).contains("/nowhere.json"));
    for (text, said) in [("[]", "JSON object"), ("{", "JSON object"), (r#"{"sub": 1}"#, "claims must not have")] {
        std::fs::write(&claims, text).unwrap();
        assert!(refused(&["2", "--claims", claims.to_str().unwrap()]).contains(said), "{text}");
    }

    let tail = |arguments: &[&str]| text(&operator.run(&[&["audit", "tail"], arguments].concat(), "").stdout);
    let actions =
        |tail: &str| -> Vec<String> { tail.lines().map(|line| line.split("  ").nth(2).unwrap().to_owned()).collect() };
    let of_ann = ["user-create", "user-update", "rights-change", "email-change", "user-update"];
    assert_eq!(actions(&tail(&["ann@new.example"])), of_ann);
    assert_eq!(actions(&tail(&["2", "-n", "2"])), of_ann[3..]);
    assert_eq!(actions(&tail(&["--before", "2"])), ["user-create"]);
    let entry: Value = serde_json::from_str(tail(&["--json", "-n", "1"]).trim_end()).unwrap();
    assert_eq!(
        (&entry["action"], &entry["actor"], &entry["subject"]),
        (&json!("user-update"), &json!(null), &json!(2))
    );
}
