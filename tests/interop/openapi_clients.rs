//! Schemathesis, generated models and generated clients compare the service with its OpenAPI document.

use super::{file, installed};
use crate::support::TestApp;
use std::{path::Path, process::Command, time::Duration};
use tokio::time::sleep;

const AUDIENCE: &str = "https://orders.example.com";

/// Runs a program in `folder`, where it may write files. If the program fails, the test fails with its output.
async fn succeeds(mut program: Command, folder: &Path) {
    program.current_dir(folder).env("NO_PROXY", "127.0.0.1").env("PYTHONDONTWRITEBYTECODE", "1");
    let output = tokio::task::spawn_blocking(move || program.output()).await.unwrap().unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{}:\n{printed}", output.status);
    println!("{printed}");
}

/// Schemathesis sends valid and invalid requests and checks each reply against the document.
#[tokio::test]
async fn schemathesis_finds_no_difference_between_service_and_document() {
    let Some(installed) = installed() else { return };
    let mails = tempfile::tempdir().unwrap();
    let app = TestApp::with(&[
        ("MAIL__SMTP_URL", &format!("file:{}", mails.path().display())),
        ("JWT__AUDIENCES", AUDIENCE),
        ("SERVER__PUBLIC_URL", "https://id.example.com"),
    ])
    .await;
    let client = app.client("orders:read", &[AUDIENCE]).await;
    let root = app.superuser().await;
    let url = format!("http://{}", app.address);
    let mut program = Command::new(installed.join("venv/bin/schemathesis"));
    program.arg("--config-file").arg(file("schemathesis.toml"));
    program.args(["--no-color", "run", &format!("{url}/openapi.json")]);
    program.env("SCHEMATHESIS_HOOKS", file("schemathesis_hooks.py")).env("SIGNET_URL", &url);
    program.env("SIGNET_ROOT", root.email).env("SIGNET_MAILS", mails.path()).env("SIGNET_AUDIENCE", AUDIENCE);
    program.env("SIGNET_CLIENT", format!("{}:{}", client.id, client.secret));
    // `readyz` compares the clock of the service, which the test sets, with that of the database.
    let keep_time = async {
        loop {
            app.sync_clock();
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = succeeds(program, &installed) => {}
        () = keep_time => {}
    }
}

/// A client with generated models sends `null` for optional members.
#[tokio::test]
async fn models_generated_from_the_document_work() {
    let Some(installed) = installed() else { return };
    let app = TestApp::start().await;
    let mut program = Command::new(installed.join("venv/bin/python"));
    program.arg(file("models.py")).arg(format!("http://{}", app.address));
    succeeds(program, &installed).await;
}

/// `openapi-python-client` generates a client with every operation, and the client does what the README shows.
#[tokio::test]
async fn a_python_client_generated_from_the_document_works() {
    let Some(installed) = installed() else { return };
    let app = TestApp::start().await;
    let mut program = Command::new(installed.join("venv/bin/python"));
    program.arg(file("python_client.py")).arg(format!("http://{}", app.address));
    succeeds(program, &installed).await;
}

/// `tsc` compiles the types of `openapi-typescript`, and `openapi-fetch` does what the README shows.
#[tokio::test]
async fn a_typescript_client_generated_from_the_document_works() {
    let Some(installed) = installed() else { return };
    let app = TestApp::start().await;
    let mut program = Command::new("node");
    program.arg(file("typescript_client.mjs")).arg(&installed).arg(format!("http://{}", app.address));
    succeeds(program, &installed).await;
}
