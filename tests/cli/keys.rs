//! `signet keys`, and secrets in files

use crate::support::{
    eventually, eventually_within,
    keys::{key_set, kid, kids},
    process::{Service, run, text},
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

/// An operator replaces the first key of a directory with a second. The service reads the directory every ten seconds,
/// and at once at SIGHUP.
#[tokio::test]
async fn keys_are_generated_listed_rotated_and_reloaded() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [
        ("SIGNET__JWT__KEYS_DIR", "keys"),
        ("SIGNET__JWT__ALGORITHM", "ES256"),
        ("SIGNET__SERVER__BIND", "127.0.0.1:0"),
    ];
    let keys = |arguments: &[&str]| {
        let output = run(folder.path(), &environment, &[&["keys"], arguments].concat(), "");
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    let json = |arguments: &[&str]| -> Vec<Value> {
        keys(arguments).1.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let states = || json(&["list", "--json"]).iter().map(|key| key["state"].clone()).collect::<Vec<_>>();

    // Without a key these commands fail, and the message names the cause.
    let (code, said) = keys(&["list"]);
    assert!(code == 78 && said.contains("the folder cannot be read"), "{said}");
    let output = run(folder.path(), &environment, &[], "");
    assert!(output.status.code() == Some(78), "{output:?}");
    let (code, said) = keys(&["rotate"]);
    assert!(code == 78 && said.contains("the folder cannot be read"), "{said}");
    let output = run(folder.path(), &[], &["keys", "list"], "");
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("jwt.keys_dir is not set"), "{output:?}");

    let (code, said) = keys(&["generate"]);
    assert!(code == 0 && said.contains("is active") && !said.contains("BEGIN"), "{said}");
    let mut service = Service::start(folder.path(), &environment);
    let key_count = async || kids(&key_set(&service).await).len();
    assert_eq!((key_count().await, states()), (1, vec![json!("active")]));
    let old = service.user_with_email("ann@example.com").await.access;
    let sign_in = async || service.sign_in("ann@example.com").await.access;

    assert!(keys(&["generate"]).1.contains("is next"));
    assert!(keys(&["generate"]).1.contains("is next already"));
    assert_eq!(states(), [json!("active"), json!("next")]);
    eventually_within(15, 2, key_count).await;
    assert_eq!(kid(&sign_in().await), kid(&old));

    let rotated = json(&["rotate", "--now", "--json"]).remove(0);
    let audit = run(folder.path(), &environment, &["audit", "tail", "-n", "1"], "");
    assert!(text(&audit.stdout).contains("  keys-change  ok  "), "{audit:?}");
    service.send_signal("HUP");
    let new = rotated["kid"].as_str().unwrap().to_owned();
    eventually(new.clone(), async || kid(&sign_in().await)).await;
    assert_eq!(states(), [json!("retiring"), json!("active")]);
    assert_eq!(service.bearer(&old).get("/auth/users").await.status, 200);

    // A directory that cannot be read changes nothing; the next read after its repair succeeds.
    let broken = folder.path().join("keys/broken.pem");
    fs::write(&broken, "broken").unwrap();
    service.send_signal("HUP");
    let has_logged = || service.has_logged("the keys stay as they are: keys/broken.pem: is not PEM");
    eventually(true, async || has_logged()).await;
    assert_eq!((key_count().await, kid(&sign_in().await)), (2, new));
    fs::remove_file(broken).unwrap();

    // The log states the effect of a removed key.
    let first = json(&["list", "--json"])[0]["file"].as_str().unwrap().to_owned();
    fs::remove_file(folder.path().join("keys").join(first)).unwrap();
    service.send_signal("HUP");
    let has_logged = || service.has_logged("a key was removed: the access tokens that it signed are now refused");
    eventually(true, async || has_logged()).await;
    assert_eq!(service.bearer(&old).get("/auth/users").await.status, 401);
    assert_eq!(service.end_with("TERM"), Some(0));
}

/// A pipe would block the start and a device would never end, so both are refused before they are read.
#[test]
fn a_secret_is_read_only_from_a_regular_file_of_at_most_64_kib() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    fs::write(path("long"), "k".repeat(65 * 1024)).unwrap();
    fs::write(path("latin1"), b"k\xe9y".repeat(16)).unwrap();
    fs::write(path("empty"), "\n").unwrap();
    fs::create_dir(path("keys")).unwrap();
    let rows = [
        (path("pipe"), "is not a regular file"),
        ("/dev/zero".to_owned(), "is not a regular file"),
        (path("keys"), "is not a regular file"),
        (path("long"), "is longer than 64 KiB"),
        (path("latin1"), "cannot be read"),
        (path("empty"), "is empty"),
        (path("none"), "cannot be read: entity not found"),
    ];
    for (file, fault) in &rows {
        let output = run(folder.path(), &[("SIGNET__JWT__SIGNING_KEY_FILE", file)], &["config", "check"], "");
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(78) && said.contains(fault), "{file}: {said}");
        assert!(!said.contains("kkkk"), "{said}");
    }
    // The same rules apply in the key directory.
    for (file, fault) in rows.iter().filter(|(file, _)| Path::new(file).is_file() || file.ends_with("pipe")) {
        let link = folder.path().join("keys/mine.HS256.secret");
        std::os::unix::fs::symlink(file, &link).unwrap();
        let output = run(folder.path(), &[("SIGNET__JWT__KEYS_DIR", "keys")], &["config", "check"], "");
        let fault = if file.ends_with("empty") { "at least 32 bytes" } else { fault };
        assert!(output.status.code() == Some(78) && text(&output.stderr).contains(fault), "{file}: {output:?}");
        fs::remove_file(link).unwrap();
    }
}

#[test]
fn config_check_checks_the_key_directory_and_creates_no_key() {
    const SECRET: &str = "thirty-two bytes or more, not very secret";
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("keys")).unwrap();
    let check = |environment: &[(&str, &str)]| {
        let environment = [&[("SIGNET__JWT__KEYS_DIR", "keys")], environment].concat();
        let output = run(folder.path(), &environment, &["config", "check"], "");
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    fs::write(folder.path().join("keys/mine.secret"), SECRET).unwrap();
    assert_eq!(check(&[]).0, 0);
    let (code, said) = check(&[("SIGNET__JWT__REFRESH_KEY", SECRET)]);
    assert!(code == 78 && said.contains("is also jwt.refresh_key") && !said.contains(SECRET), "{said}");
    let (code, said) = check(&[("SIGNET__JWT__ALGORITHM", "ES256")]);
    assert!(code == 78 && said.contains("keys/mine.secret: must have its algorithm in its name"), "{said}");
    fs::rename(folder.path().join("keys/mine.secret"), folder.path().join("keys/20260231T000000Z.secret")).unwrap();
    let (code, said) = check(&[]);
    assert!(code == 78 && said.contains("20260231T000000Z.secret: must have a time"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no key was created");
}
