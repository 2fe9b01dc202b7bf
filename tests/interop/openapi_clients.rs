//! Programs that others wrote compare the service with its OpenAPI document.
//!
//! `scripts/test` installs them and names their folder in `SIGNET_TEST_OTHERS`; where it could not, it said so.

use crate::support::TestApp;
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tokio::time::sleep;

/// The folder of the installed programs, unless there is none.
fn others() -> Option<PathBuf> {
    let others = env::var_os("SIGNET_TEST_OTHERS").map(PathBuf::from);
    if others.is_none() {
        println!("libraries of others: none here; scripts/test fetches them");
    }
    others
}

/// A file of ours that such a program reads.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/programs").join(name)
}

/// Runs a program in `folder`, where it may leave files, and fails with all that it printed unless it succeeds.
async fn succeeds(mut program: Command, folder: &Path) {
    program.current_dir(folder).env("NO_PROXY", "127.0.0.1").env("PYTHONDONTWRITEBYTECODE", "1");
    let output = tokio::task::spawn_blocking(move || program.output()).await.unwrap().unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{}:\n{printed}", output.status);
    println!("{printed}");
}

/// Schemathesis sends requests that the document allows and requests that it forbids, and judges every reply by it.
#[tokio::test]
async fn schemathesis_finds_the_service_as_documented() {
    let Some(others) = others() else { return };
    let app = TestApp::start().await;
    let url = format!("http://{}", app.address);
    let mut program = Command::new(others.join("venv/bin/schemathesis"));
    program.arg("--config-file").arg(file("schemathesis.toml"));
    program.args(["--no-color", "run", &format!("{url}/openapi.json")]);
    program.env("SCHEMATHESIS_HOOKS", file("schemathesis_hooks.py")).env("SIGNET_URL", &url);
    // `readyz` compares the service's clock, which stands still unless it is set, with the database's.
    let keep_time = async {
        loop {
            app.catch_up();
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = succeeds(program, &others) => {}
        () = keep_time => {}
    }
}

/// A client that is written with generated models sends `null` for optional members, and passwords as they are.
#[tokio::test]
async fn models_generated_from_the_document_work() {
    let Some(others) = others() else { return };
    let app = TestApp::start().await;
    let mut program = Command::new(others.join("venv/bin/python"));
    program.arg(file("models.py")).arg(format!("http://{}", app.address));
    succeeds(program, &others).await;
}
