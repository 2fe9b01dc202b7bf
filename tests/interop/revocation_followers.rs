//! The verifiers in `examples/verifier-python` and `examples/verifier-node` follow the sign-outs of a service.

use super::installed;
use crate::support::{
    SignedIn, TestApp,
    actor::http_client,
    eventually, eventually_within,
    keys::PAIRS,
    process::{KillOnDrop, free_port, run, text},
    within,
};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

const AUDIENCE: &str = "https://orders.example.com";

/// The service of an example, on a free port.
struct Verifier {
    name: &'static str,
    address: String,
    _process: KillOnDrop,
    _folder: TempDir,
}

impl Verifier {
    /// Starts a copy of the example that trusts the service at `signet`.
    async fn start(name: &'static str, program: PathBuf, libraries: &Path, signet: &str, client: &Value) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port().to_string());
        for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)).unwrap() {
            let file = file.unwrap();
            let text = fs::read_to_string(file.path()).unwrap();
            let text = text.replace("https://id.example.com", signet).replace("9000", &port);
            fs::write(folder.path().join(file.file_name()), text).unwrap();
        }
        symlink(libraries.join("node_modules"), folder.path().join("node_modules")).unwrap();
        let mut command = Command::new(program);
        command.arg(if name == "verifier-node" { "app.mjs" } else { "app.py" }).current_dir(&folder);
        command.env("SIGNET_CLIENT_ID", client["id"].as_str().unwrap());
        command.env("SIGNET_CLIENT_SECRET", client["secret"].as_str().unwrap());
        command.env("NO_PROXY", "127.0.0.1").stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = KillOnDrop(command.spawn().unwrap());
        let address = format!("127.0.0.1:{port}");
        assert!(within(20, process.accepts_connections(&address)).await, "{name} ended");
        Self { name, address, _process: process, _folder: folder }
    }

    /// The reply to a request with this token: the status, and the subject if it is accepted.
    async fn ask(&self, token: &str) -> (u16, String) {
        let client = http_client().build().unwrap();
        let reply = client.get(format!("http://{}/", self.address)).bearer_auth(token).send().await.unwrap();
        let status = reply.status().as_u16();
        (status, if status == 200 { reply.text().await.unwrap() } else { String::new() })
    }

    async fn accepts(&self, user: &SignedIn) -> bool {
        self.ask(&user.access).await == (200, user.id.to_string())
    }

    /// Signs a user out, and checks that the verifier refuses the token within two seconds.
    async fn refuses_after_sign_out(&self, app: &TestApp, user: &SignedIn) {
        // 503 until the verifier has read the feed.
        eventually(true, async || self.accepts(user).await).await;
        assert_eq!(app.sign_out(&user.refresh).await.status, 204);
        let took = eventually_within(2, 401, async || self.ask(&user.access).await.0).await;
        println!("{} refuses the token {} ms after the sign-out", self.name, took.as_millis());
    }
}

#[tokio::test]
async fn verifiers_refuse_a_token_within_two_seconds_of_a_sign_out() {
    let Some(installed) = installed() else { return };
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}");
    let &(_, key, _) = PAIRS.iter().find(|(algorithm, ..)| *algorithm == "ES256").unwrap();
    let settings = [
        ("SERVER__BIND", address.as_str()),
        ("JWT__ALGORITHM", "ES256"),
        ("JWT__SIGNING_KEY", key),
        ("JWT__ISSUER", url.as_str()),
        ("JWT__AUDIENCE", AUDIENCE),
    ];
    let app = TestApp::with(&settings).await;
    let folder = tempfile::tempdir().unwrap();
    let database = app.database.url();
    let environment = [("SIGNET__DATABASE__URL", database.as_str())];
    let output = run(folder.path(), &environment, &["client", "create", "orders", "--json"], "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let client: Value = serde_json::from_slice(&output.stdout).unwrap();

    for (name, program) in
        [("verifier-python", installed.join("venv/bin/python")), ("verifier-node", PathBuf::from("node"))]
    {
        let early = app.user().await;
        assert_eq!(app.sign_out(&early.refresh).await.status, 204);
        let verifier = Verifier::start(name, program, &installed, &url, &client).await;
        let (ann, bob, eve, joe) = (app.user().await, app.user().await, app.user().await, app.user().await);
        eventually(true, async || verifier.accepts(&joe).await).await;
        assert_eq!(verifier.ask(&early.access).await.0, 401, "{name}");
        assert_eq!(verifier.ask(&joe.refresh).await.0, 401, "{name}");
        verifier.refuses_after_sign_out(&app, &ann).await;
        verifier.refuses_after_sign_out(&app, &bob).await;
        assert_eq!(verifier.ask(&ann.access).await.0, 401, "{name}");

        // A backup is restored while the verifier waits: the feed has another id and starts from 0.
        let mut transaction = app.database.begin("DELETE FROM revocations").await;
        let id = if app.database.is_sqlite() { "randomblob(16)" } else { "gen_random_uuid()" };
        transaction.execute(&format!("UPDATE revocation_feed SET seq = 0, feed_id = {id}")).await;
        transaction.commit().await;
        verifier.refuses_after_sign_out(&app, &eve).await;
        assert!(verifier.accepts(&joe).await, "{name}");
        assert_eq!(verifier.ask(&ann.access).await.0, 401, "{name} keeps what the database has lost");
    }
}
