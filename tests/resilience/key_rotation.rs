//! Keys change while replicas serve, and no request and no session is lost

use crate::support::{
    TestApp,
    app::{REFRESH_KEY, Replica},
    keys::{LONG_SECRET, PAIRS, key_set, kid, kids},
};
use signet::{
    clock::Clock,
    domain::{Algorithm, Timestamp},
    keys::files,
};
use std::{cell::Cell, fs, path::PathBuf, time::Duration};
use tempfile::TempDir;

/// A key directory, and the changes that an operator makes to it.
struct KeyDirectory {
    _folder: TempDir,
    path: PathBuf,
}

impl KeyDirectory {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("keys"), _folder: folder }
    }

    fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn settings(&self) -> [(&str, &str); 4] {
        [
            ("JWT__SIGNING_KEY", ""),
            ("JWT__KEYS_DIR", self.text()),
            ("JWT__ALGORITHM", "ES256"),
            ("JWT__ROTATE_REFRESH_TOKENS", "true"),
        ]
    }

    fn generate(&self, algorithm: Algorithm, now: i64) -> String {
        files::generate(&self.path, algorithm, Timestamp(now)).unwrap().key.kid().to_owned()
    }

    /// The key directory of another replica, with the same files.
    fn copy(&self) -> Self {
        let copy = Self::new();
        fs::create_dir(&copy.path).unwrap();
        self.copy_to(&copy);
        copy
    }

    /// Copies the files of this directory to another.
    fn copy_to(&self, other: &Self) {
        for file in fs::read_dir(&self.path).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), other.path.join(file.file_name())).unwrap();
        }
    }

    fn rotate(&self, now: i64) -> String {
        files::rotate(&self.path, Algorithm::Es256, false, Timestamp(now)).unwrap().key.kid().to_owned()
    }
}

/// A service whose key directory has one key.
async fn with_one_key() -> (KeyDirectory, TestApp) {
    let folder = KeyDirectory::new();
    folder.generate(Algorithm::Es256, Clock::System.now().0);
    let app = TestApp::with(&folder.settings()).await;
    (folder, app)
}

/// A client that refreshes and verifies tokens at both replicas until `stop` is set; returns how often.
async fn use_tokens(app: &TestApp, replica: &Replica, stop: &Cell<bool>) -> usize {
    let ann = app.user().await;
    let (mut refresh, mut used, mut tokens) = (ann.refresh, 0, vec![ann.access]);
    while !stop.get() {
        let reply = if used % 2 == 0 { app.refresh(&refresh).await } else { replica.refresh(&refresh).await };
        assert_eq!(reply.status, 200, "{reply:?}");
        refresh = reply.string("refresh_token").to_owned();
        tokens.push(reply.string("access_token").to_owned());
        for token in tokens.iter().rev().take(3) {
            assert_eq!((app.verify(token).await, replica.verify(token).await), (200, 200), "{token}");
        }
        used += 1;
    }
    used
}

/// The key that signs on each of two replicas.
async fn signers(app: &TestApp, replica: &Replica) -> [String; 2] {
    let ann = app.user().await;
    let tokens = [app.refresh(&ann.refresh).await, replica.refresh(&ann.refresh).await];
    tokens.map(|reply| kid(reply.string("access_token")))
}

#[tokio::test]
async fn a_rotation_under_load_loses_no_request_and_no_session() {
    let (folder, app) = with_one_key().await;
    let replica = app.replica(&folder.settings()).await;
    let stop = Cell::new(false);
    let first = kids(&key_set(&app).await);
    let pause = async || tokio::time::sleep(Duration::from_millis(100)).await;
    let signer = async || kid(&app.user().await.access);
    let reload = async || {
        app.reload_key_directory().unwrap();
        pause().await;
        replica.reload_key_directory().unwrap();
        pause().await;
    };
    let advance = async |seconds: i64| {
        for _ in 0..seconds / 10 {
            app.advance(10);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let operator = async {
        pause().await;
        // A key of another algorithm: the ring knows the algorithm of each key.
        let next = folder.generate(Algorithm::EdDsa, app.now());
        reload().await;
        assert_eq!(kids(&key_set(&app).await), [&first[0][..], &next], "published, but not yet signing");
        assert_eq!(signer().await, first[0]);
        assert_eq!(folder.rotate(app.now()), next);
        reload().await;
        advance(290).await;
        assert_eq!(signer().await, first[0], "every cached key set gets the next key before it signs");
        advance(10).await;
        assert_eq!(signer().await, next);
        assert_eq!(kids(&key_set(&app).await), [&first[0][..], &next], "tokens of the first are still accepted");
        advance(600).await;
        assert_eq!(kids(&key_set(&app).await), [&next[..]], "the last token of the first key has expired");
        pause().await;
        stop.set(true);
    };
    let used = || use_tokens(&app, &replica, &stop);
    let (.., one, two) = futures_util::future::join3(operator, used(), used()).await;
    println!("a rotation under load: {} refreshes at two replicas, none refused", one + two);
    assert!(one > 10 && two > 10);
}

/// Replica A gets the file of the next key at once, replica B four minutes later. Both publish it for a minute before
/// either signs with it, and both start in the same second, without a message from A to B.
#[tokio::test]
async fn two_replicas_publish_a_key_before_they_sign_with_it() {
    let (folder, app) = with_one_key().await;
    let elsewhere = folder.copy();
    let replica = app.replica(&elsewhere.settings()).await;
    let first = kids(&key_set(&app).await)[0].clone();
    // Without a next key `rotate` generates one and activates it five minutes later.
    let next = folder.rotate(app.now());
    app.reload_key_directory().unwrap();
    app.advance(240);
    folder.copy_to(&elsewhere);
    replica.reload_key_directory().unwrap();
    let published = [key_set(&app).await, key_set(&replica).await];
    assert_eq!(published.map(|keys| kids(&keys)), [[&first[..], &next], [&first, &next]]);
    for _ in 0..6 {
        assert_eq!(signers(&app, &replica).await, [&first[..], &first]);
        app.advance(10);
    }
    assert_eq!(signers(&app, &replica).await, [&next[..], &next]);
}

#[tokio::test]
async fn a_token_of_a_retiring_key_verifies_until_it_expires() {
    let (folder, app) = with_one_key().await;
    let replica = app.replica(&folder.settings()).await;
    let next = folder.rotate(app.now());
    app.reload_key_directory().unwrap();
    replica.reload_key_directory().unwrap();
    app.advance(299);
    let last = app.user().await.access;
    app.advance(1);
    assert_ne!(kid(&last), next);
    assert_eq!(signers(&app, &replica).await, [&next[..], &next]);
    app.advance(298);
    assert_eq!((app.verify(&last).await, replica.verify(&last).await), (200, 200));
    app.advance(1);
    assert_eq!((app.verify(&last).await, replica.verify(&last).await), (401, 401));
}

/// A replica that starts during a rotation reads the same file names, so it signs with the same key.
#[tokio::test]
async fn a_restart_keeps_every_key_state() {
    let (folder, app) = with_one_key().await;
    let first = kids(&key_set(&app).await)[0].clone();
    let next = folder.rotate(app.now());
    app.reload_key_directory().unwrap();
    app.advance(299);
    let replica = app.replica(&folder.settings()).await;
    assert_eq!(signers(&app, &replica).await, [&first[..], &first]);
    app.advance(1);
    let again = app.replica(&folder.settings()).await;
    assert_eq!(signers(&app, &replica).await, [&next[..], &next]);
    assert_eq!(signers(&app, &again).await, [&next[..], &next]);
}

/// A key file reaches one replica after the activation: the tokens that this replica signed until then are accepted.
#[tokio::test]
async fn a_key_file_that_arrives_late_ends_no_session() {
    let (folder, app) = with_one_key().await;
    let elsewhere = folder.copy();
    let replica = app.replica(&elsewhere.settings()).await;
    let first = kids(&key_set(&app).await)[0].clone();
    let next = folder.rotate(app.now());
    app.reload_key_directory().unwrap();
    app.advance(400);
    assert_eq!(signers(&app, &replica).await, [&next[..], &first]);
    let ann = app.user().await;
    let late = replica.refresh(&ann.refresh).await.string("access_token").to_owned();
    folder.copy_to(&elsewhere);
    replica.reload_key_directory().unwrap();
    assert_eq!(signers(&app, &replica).await, [&next[..], &next]);
    app.advance(200);
    assert_eq!((app.verify(&late).await, replica.verify(&late).await), (200, 200));
}

#[tokio::test]
async fn unreadable_keys_leave_the_key_set_unchanged() {
    let (folder, app) = with_one_key().await;
    let ann = app.user().await;
    let before = key_set(&app).await;
    // The regular read of the directory and SIGHUP report the same fault.
    let faults = |expected: &str| {
        let faults = [app.reload_key_directory().err(), app.reload_keys(&folder.settings()).err()];
        for fault in faults.map(|fault| fault.expect("a fault").to_string()) {
            assert!(fault.contains(expected), "{fault}");
        }
    };
    let broken = folder.path.join("broken.pem");
    fs::write(&broken, "-----BEGIN PRIVATE KEY-----\nbroken").unwrap();
    faults("broken.pem");
    fs::remove_file(&broken).unwrap();
    let elsewhere = folder.path.with_extension("gone");
    fs::rename(&folder.path, &elsewhere).unwrap();
    faults("cannot be read");
    fs::create_dir(&folder.path).unwrap();
    faults("there is no key");
    fs::write(folder.path.join("next.pem"), PAIRS[6].1).unwrap();
    faults("no key is active");
    assert_eq!(key_set(&app).await, before);
    assert_eq!((app.verify(&ann.access).await, app.user().await.actor.get("/auth/users/me").await.status), (200, 200));
    fs::remove_dir_all(&folder.path).unwrap();
    fs::rename(&elsewhere, &folder.path).unwrap();
    let next = folder.generate(Algorithm::Es256, app.now());
    app.reload_key_directory().unwrap();
    assert!(kids(&key_set(&app).await).contains(&next), "the restored directory is read again");
}

#[tokio::test]
async fn a_secret_in_the_key_directory_obeys_the_rules_of_the_setting() {
    let folder = KeyDirectory::new();
    fs::create_dir(&folder.path).unwrap();
    let app = TestApp::start().await;
    let file = folder.path.join("mine.HS256.secret");
    for (secret, fault) in [
        ("short", "at least 32 bytes"),
        ("changeme-changeme-changeme-changeme", "published or trivial"),
        (REFRESH_KEY, "is also jwt.refresh_key"),
    ] {
        fs::write(&file, secret).unwrap();
        let said = app.reload_keys(&folder.settings()).unwrap_err().to_string();
        assert!(said.contains(fault) && !said.contains(secret), "{said}");
    }
    fs::write(&file, format!("{LONG_SECRET}\n")).unwrap();
    let kid_now = app.reload_keys(&folder.settings()).unwrap();
    assert_eq!(kid(&app.user().await.access), kid_now);
}

#[tokio::test]
async fn a_leaked_key_is_replaced_at_once() {
    let (folder, app) = with_one_key().await;
    let ann = app.user().await;
    let leaked = fs::read_dir(&folder.path).unwrap().next().unwrap().unwrap().path();
    app.advance(1);
    files::rotate(&folder.path, Algorithm::Es256, true, Timestamp(app.now())).unwrap();
    fs::remove_file(leaked).unwrap();
    app.reload_key_directory().unwrap();
    let new = kids(&key_set(&app).await).remove(0);
    assert_ne!(new, kid(&ann.access));
    assert_eq!(app.verify(&ann.access).await, 401);
    let again = app.refresh(&ann.refresh).await;
    assert_eq!((again.status, kid(again.string("access_token"))), (200, new), "the session has not ended");
}

/// One replica signs with the new refresh key, another still with the old one: each verifies both.
#[tokio::test]
async fn the_refresh_key_changes_without_a_lost_session() {
    const NEW: &str = "a key that only the tests know: refresh, the next";
    let before = [("JWT__REFRESH_KEY", REFRESH_KEY), ("JWT__REFRESH_KEY_PREVIOUS", NEW)];
    let after = [("JWT__REFRESH_KEY", NEW), ("JWT__REFRESH_KEY_PREVIOUS", REFRESH_KEY)];
    for rotates in ["false", "true"] {
        let rotation = ("JWT__ROTATE_REFRESH_TOKENS", rotates);
        let old = TestApp::with(&[before[0], before[1], rotation]).await;
        let new = old.replica(&[after[0], after[1], rotation]).await;
        let ann = old.user().await;
        let mut token = ann.refresh.clone();
        for round in 0..6 {
            let reply = if round % 2 == 0 { new.refresh(&token).await } else { old.refresh(&token).await };
            assert_eq!(reply.status, 200, "{rotates} {round} {reply:?}");
            if let Some(next) = reply.json["refresh_token"].as_str() {
                assert_ne!(kid(next), kid(&token), "each replica signs with its own key");
                token = next.to_owned();
            }
        }
        // A key in neither setting verifies nothing.
        let later = old.replica(&[("JWT__REFRESH_KEY", NEW), rotation]).await;
        assert_eq!(later.refresh(&ann.refresh).await.status, 401);
        old.reload_keys(&[after[0], after[1]]).unwrap();
        assert_eq!(old.refresh(&token).await.status, 200, "the key is reloaded without a restart");
    }
}
