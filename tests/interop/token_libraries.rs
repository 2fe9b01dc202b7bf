//! The libraries `PyJWT`, `joserfc` and `jose` verify tokens with the key set, the issuer and the audience.

use super::{file, installed};
use crate::support::{
    TestApp,
    keys::{LONG_SECRET, algorithms},
};
use serde_json::{Value, json};
use std::{
    io::Write,
    process::{Command, Stdio},
};

const ISSUER: &str = "https://id.example.com";

/// Sends this case to the standard input of a program, and returns the JSON that the program prints.
fn ask(program: &mut Command, case: &Value) -> Value {
    let program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).env("NO_PROXY", "127.0.0.1");
    let mut child = program.spawn().unwrap();
    child.stdin.take().unwrap().write_all(case.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{case}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn pyjwt_joserfc_and_jose_accept_valid_tokens_and_refuse_the_rest() {
    let Some(installed) = installed() else { return };
    let mut verified = 0;
    for (algorithm, key) in algorithms() {
        let with = async |audience: &'static str| {
            TestApp::with(&[
                ("JWT__ALGORITHM", algorithm),
                ("JWT__SIGNING_KEY", key),
                ("JWT__ISSUER", ISSUER),
                ("JWT__AUDIENCE", audience),
            ])
            .await
        };
        let app = with("shop").await;
        let ann = app.user().await;
        app.advance(-600);
        let expired = app.sign_in(&ann.email).await.access;
        app.advance(600);
        let another = with("bakery").await.user().await.access;
        let (message, signature) = ann.access.rsplit_once('.').unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        let other_claims = another.split('.').nth(1).unwrap();
        let swapped = format!("{header}.{other_claims}.{signature}");
        let middle = signature.len() / 2;
        let other = if signature.as_bytes()[middle] == b'A' { "B" } else { "A" };
        let damaged = format!("{message}.{}{other}{}", &signature[..middle], &signature[middle + 1..]);
        let tokens = [
            ("good", ann.access.clone()),
            ("with other claims", swapped),
            ("with a damaged signature", damaged),
            ("without a signature", format!("{header}.{claims}.")),
            ("expired", expired),
            ("for another audience", another),
        ];
        let case = json!({
            "algorithm": algorithm,
            "issuer": ISSUER,
            "audience": "shop",
            "jwks": format!("http://{}/.well-known/jwks.json", app.address),
            "secret": algorithm.starts_with("HS").then_some(LONG_SECRET),
            "tokens": tokens.iter().map(|(name, token)| json!({"name": name, "token": token})).collect::<Vec<_>>(),
        });
        // The programs block until the libraries have fetched the key set.
        let (python, libraries) = (installed.join("venv/bin/python"), installed.clone());
        let replies = tokio::task::spawn_blocking(move || {
            let node = ask(Command::new("node").arg(file("verify.mjs")).arg(libraries), &case);
            [ask(Command::new(python).arg(file("verify.py")), &case), node]
        });
        for (library, accepted) in replies.await.unwrap().iter().flat_map(|reply| reply.as_object().unwrap()) {
            assert_eq!(accepted, &json!(["good"]), "{library}, {algorithm}");
            verified += 1;
        }
    }
    println!("token libraries: {verified} pairs of library and algorithm, each with 1 good token and 5 bad ones");
    assert_eq!(verified, 12 * 3);
}
