//! Keys: every algorithm, the key set, rotation without a lost request, and what attackers make of a public key.

use crate::support::{
    TestApp, all,
    app::{REFRESH_KEY, Replica, SIGNING_KEY},
    eventually,
    token::{sign_with, take_apart},
};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, Validation, decode, jwk::JwkSet};
use serde_json::{Value, json};
use signet::{
    clock::Clock,
    domain::{Algorithm, Timestamp},
    keys::files,
};
use std::{cell::Cell, fs, path::PathBuf, time::Duration};
use tempfile::TempDir;

/// A key of each family, as OpenSSL wrote it, and its public half.
const PAIRS: &[(&str, &str, &str)] = &[
    ("RS256", include_str!("keys/rsa-pkcs8.pem"), include_str!("keys/rsa-public.pem")),
    ("RS384", include_str!("keys/rsa-pkcs1.pem"), include_str!("keys/rsa-public.pem")),
    ("RS512", include_str!("keys/rsa-pkcs8.pem"), include_str!("keys/rsa-public-pkcs1.pem")),
    ("PS256", include_str!("keys/rsa-pkcs1.pem"), include_str!("keys/rsa-public.pem")),
    ("PS384", include_str!("keys/rsa-pkcs8.pem"), include_str!("keys/rsa-public.pem")),
    ("PS512", include_str!("keys/rsa-pkcs8.pem"), include_str!("keys/rsa-public.pem")),
    ("ES256", include_str!("keys/p256-sec1.pem"), include_str!("keys/p256-public.pem")),
    ("ES384", include_str!("keys/p384-pkcs8.pem"), include_str!("keys/p384-public.pem")),
    ("EdDSA", include_str!("keys/ed25519-pkcs8.pem"), include_str!("keys/ed25519-public.pem")),
];

pub const LONG_SECRET: &str = "sixty-four bytes that only the tests know, so HS512 can use them.";

/// Each algorithm with a key for it.
pub fn algorithms() -> impl Iterator<Item = (&'static str, &'static str)> {
    let secrets = ["HS256", "HS384", "HS512"].map(|name| (name, LONG_SECRET));
    secrets.into_iter().chain(PAIRS.iter().map(|(name, private, _)| (*name, *private)))
}

async fn signing_with(algorithm: &str, key: &str, more: &[(&str, &str)]) -> TestApp {
    let settings = [("JWT__ALGORITHM", algorithm), ("JWT__SIGNING_KEY", key)];
    TestApp::with(&settings.iter().chain(more).copied().collect::<Vec<_>>()).await
}

async fn key_set(app: &TestApp) -> Value {
    app.anon().get("/.well-known/jwks.json").await.json
}

fn kids(key_set: &Value) -> Vec<String> {
    key_set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn kid(token: &str) -> String {
    take_apart(token).header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_algorithm_signs_what_the_key_set_verifies() {
    let mut count = 0;
    for (algorithm, key) in algorithms() {
        let app = signing_with(algorithm, key, &[("JWT__ROTATE_REFRESH_TOKENS", "true")]).await;
        let ann = app.user().await;
        assert_eq!(ann.actor.get("/auth/users/me").await.status, 200, "{algorithm}");
        let header = take_apart(&ann.access).header;
        assert_eq!((&header["alg"], &header["typ"]), (&json!(algorithm), &json!("at+jwt")));
        assert_eq!(take_apart(&ann.refresh).header["alg"], "HS256", "refresh tokens are nobody else's affair");

        let reply = app.anon().get("/.well-known/jwks.json").await;
        assert_eq!((reply.status, reply.header("cache-control")), (200, "public, max-age=60"));
        let keys = reply.json["keys"].as_array().unwrap();
        if algorithm.starts_with("HS") {
            assert_eq!(reply.text, "{\"keys\":[]}");
        } else {
            assert_eq!((keys.len(), &keys[0]["kid"]), (1, &header["kid"]), "{algorithm}");
            assert_eq!((&keys[0]["alg"], &keys[0]["use"]), (&json!(algorithm), &json!("sig")));
            let members: Vec<&str> = keys[0].as_object().unwrap().keys().map(String::as_str).collect();
            let expected: &[&str] = match &algorithm[..2] {
                "ES" => &["alg", "crv", "kid", "kty", "use", "x", "y"],
                "Ed" => &["alg", "crv", "kid", "kty", "use", "x"],
                _ => &["alg", "e", "kid", "kty", "n", "use"],
            };
            assert_eq!(members, expected, "nothing private, nothing that is not needed");
            let set: JwkSet = serde_json::from_value(reply.json.clone()).unwrap();
            let mut validation = Validation::new(algorithm.parse().unwrap());
            validation.validate_aud = false;
            let key = DecodingKey::from_jwk(set.find(&kid(&ann.access)).unwrap()).unwrap();
            assert_eq!(
                decode::<Value>(&ann.access, &key, &validation).unwrap().claims["sub"],
                json!(ann.id.to_string())
            );
        }

        // A retry gets the same pair: byte for byte where signatures do not differ each time.
        app.pass(1);
        let [first, again] = [app.refresh(&ann.refresh).await.json, app.refresh(&ann.refresh).await.json];
        let token = |reply: &Value| reply["access_token"].as_str().unwrap().to_owned();
        assert_eq!(take_apart(&token(&first)).claims, take_apart(&token(&again)).claims, "{algorithm}");
        let is_random = algorithm.starts_with("ES") || algorithm.starts_with("PS");
        assert_eq!(token(&first) == token(&again), !is_random, "{algorithm}");
        assert_eq!(first["refresh_token"], again["refresh_token"]);
        count += 1;
    }
    println!("algorithms: {count}");
    assert_eq!(count, Algorithm::all().count());
}

/// What a public key can be written as, to be taken for the secret of an HMAC (RFC 8725 §2.1).
fn spellings(public: &str, jwk: &Value) -> Vec<(String, Vec<u8>)> {
    let der = pem::parse(public).unwrap().into_contents();
    let point = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap_or_default()).unwrap();
    let raw: Vec<u8> = [point("n"), point("x"), point("y")].concat();
    let mut rows = vec![
        ("PEM".to_owned(), public.as_bytes().to_vec()),
        ("PEM without the last line end".to_owned(), public.trim_end().as_bytes().to_vec()),
        ("PEM with Windows' line ends".to_owned(), public.replace('\n', "\r\n").into_bytes()),
        ("PEM with white space before".to_owned(), format!("\n \t{public}").into_bytes()),
        ("PEM without its first and last line".to_owned(), {
            let lines: Vec<&str> = public.lines().filter(|line| !line.starts_with('-')).collect();
            lines.concat().into_bytes()
        }),
        ("DER".to_owned(), der),
        ("JWK".to_owned(), jwk.to_string().into_bytes()),
        ("the numbers alone".to_owned(), raw.clone()),
        ("an uncompressed point".to_owned(), [&[4][..], &raw].concat()),
        ("ssh".to_owned(), format!("ssh-ed25519 {}", URL_SAFE_NO_PAD.encode(&raw)).into_bytes()),
        ("kid".to_owned(), jwk["kid"].as_str().unwrap().as_bytes().to_vec()),
    ];
    for member in ["n", "x", "e"] {
        let text = jwk[member].as_str().unwrap_or_default().as_bytes().to_vec();
        rows.push((format!("the text of {member}"), text));
    }
    rows
}

#[tokio::test]
async fn a_public_key_is_no_secret_and_the_header_chooses_nothing() {
    // Whoever fetches a key that a token names would ask here.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let elsewhere = listener.local_addr().unwrap();
    let mut replies = Vec::new();
    for (algorithm, private, public) in PAIRS {
        let app = signing_with(algorithm, private, &[]).await;
        let ann = app.user().await;
        let jwk = key_set(&app).await["keys"][0].clone();
        let parts = take_apart(&ann.access);
        let mut rows = Vec::new();
        let hashes = [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];
        for (name, key) in spellings(public, &jwk) {
            for (hs, hash) in hashes {
                for said in [hs, algorithm] {
                    let mut header = parts.header.clone();
                    header["alg"] = said.into();
                    let token = sign_with(hash, &header.to_string(), &parts.claims.to_string(), &key);
                    rows.push((format!("{hs} keyed with {name}, called {said}"), token));
                }
            }
        }
        // The right signature under another name of the algorithm, and none at all.
        let [_, claims, signature] = ann.access.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        for said in Algorithm::all().map(Algorithm::name).chain(["none", "None", "NONE", "nOnE", "ES256K", ""]) {
            let mut header = parts.header.clone();
            header["alg"] = said.into();
            let header = URL_SAFE_NO_PAD.encode(header.to_string());
            if said != *algorithm {
                rows.push((format!("its signature, called {said}"), format!("{header}.{claims}.{signature}")));
            }
            rows.push((format!("no signature, called {said}"), format!("{header}.{claims}.")));
        }
        // Degenerate and damaged signatures, a second spelling of a good one.
        let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let message = ann.access.rsplit_once('.').unwrap().0;
        let half = bytes.len() / 2;
        for (name, bytes) in [
            ("zeros", vec![0; bytes.len()]),
            ("ones", vec![0xff; bytes.len()]),
            ("r = 0", [&vec![0; half][..], &bytes[half..]].concat()),
            ("s = 0", [&bytes[..half], &vec![0; half][..]].concat()),
            ("r and s swapped", [&bytes[half..], &bytes[..half]].concat()),
            ("cut", bytes[..bytes.len() - 1].to_vec()),
            ("a byte more", [&bytes[..], &[0]].concat()),
            ("a byte before", [&[0], &bytes[..]].concat()),
            ("doubled", [&bytes[..], &bytes[..]].concat()),
            ("empty", vec![]),
        ] {
            rows.push((name.to_owned(), format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes))));
        }
        for bit in [0, bytes.len() * 8 / 2, bytes.len() * 8 - 1] {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            rows.push((format!("bit {bit} flipped"), format!("{message}.{}", URL_SAFE_NO_PAD.encode(flipped))));
        }
        rows.push(("padded".to_owned(), format!("{}==", ann.access)));
        // A key that the token brings along.
        for (name, value) in [
            ("jwk", jwk.clone()),
            ("jku", json!(format!("http://{}/.well-known/jwks.json", app.address))),
            ("jku", json!(format!("http://{elsewhere}/jwks.json"))),
            ("x5u", json!(format!("http://{elsewhere}/cert.pem"))),
            ("kid", json!(format!("http://{elsewhere}/key"))),
            ("x5c", json!(["MIIB"])),
            ("crit", json!(["exp"])),
        ] {
            let mut header = parts.header.clone();
            header[name] = value;
            let header = URL_SAFE_NO_PAD.encode(header.to_string());
            rows.push((format!("brings {name}"), format!("{header}.{claims}.{signature}")));
        }
        for (name, token) in rows {
            let reply = app.bearer(&token).get("/auth/verify").await;
            replies.push((format!("{algorithm}: {name}"), reply));
        }
        assert_eq!(app.verify(&ann.access).await, 204, "{algorithm}: a bad token spoils nothing");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nothing is fetched");
    all(
        "tokens against key pairs",
        &replies,
        |(name, _)| name.clone(),
        |(_, reply)| {
            ((reply.status, reply.code()) != (401, "invalid-token")).then(|| format!("{} {}", reply.status, reply.text))
        },
    );
}

/// ECDSA has two signatures for each: the other one verifies, too, and so must end with its session.
#[tokio::test]
async fn a_second_spelling_of_a_signature_ends_with_its_session() {
    let app = signing_with("ES256", include_str!("keys/p256-pkcs8.pem"), &[]).await;
    let ann = app.user().await;
    let (message, signature) = ann.access.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&order[at..at + 2], 16).unwrap()).collect();
    let mut other = bytes.clone();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(bytes[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        other[32 + at] = u8::try_from(difference + borrow * 256).unwrap();
    }
    let other = format!("{message}.{}", URL_SAFE_NO_PAD.encode(other));
    assert_ne!(other, ann.access);
    assert_eq!((app.verify(&ann.access).await, app.verify(&other).await), (204, 204));
    app.sign_out(&ann.refresh).await;
    assert_eq!((app.verify(&ann.access).await, app.verify(&other).await), (401, 401));
}

/// A folder of keys that a test looks after as an operator does.
struct Folder {
    _folder: TempDir,
    path: PathBuf,
}

impl Folder {
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

    /// The folder of another replica, with the same files.
    fn copy(&self) -> Self {
        let copy = Self::new();
        fs::create_dir(&copy.path).unwrap();
        self.copy_to(&copy);
        copy
    }

    /// Brings the files of this folder to another replica.
    fn copy_to(&self, other: &Self) {
        for file in fs::read_dir(&self.path).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), other.path.join(file.file_name())).unwrap();
        }
    }

    fn rotate(&self, now: i64) -> String {
        files::rotate(&self.path, Algorithm::Es256, false, Timestamp(now)).unwrap().key.kid().to_owned()
    }
}

/// A service with a folder of one key.
async fn with_one_key() -> (Folder, TestApp) {
    let folder = Folder::new();
    folder.generate(Algorithm::Es256, Clock::System.now().0);
    let app = TestApp::with(&folder.settings()).await;
    (folder, app)
}

/// A client that refreshes and uses tokens at both replicas until `stop` is set; returns how often.
async fn use_on_and_on(app: &TestApp, replica: &Replica, stop: &Cell<bool>) -> usize {
    let ann = app.user().await;
    let (mut refresh, mut used, mut tokens) = (ann.refresh, 0, vec![ann.access]);
    while !stop.get() {
        let reply = if used % 2 == 0 { app.refresh(&refresh).await } else { replica.refresh(&refresh).await };
        assert_eq!(reply.status, 200, "{reply:?}");
        refresh = reply.json["refresh_token"].as_str().unwrap().to_owned();
        tokens.push(reply.json["access_token"].as_str().unwrap().to_owned());
        for token in tokens.iter().rev().take(3) {
            assert_eq!((app.verify(token).await, replica.verify(token).await), (204, 204), "{token}");
        }
        used += 1;
    }
    used
}

/// Which key signs at each of two replicas.
async fn signers(app: &TestApp, replica: &Replica) -> [String; 2] {
    let ann = app.user().await;
    let tokens = [app.refresh(&ann.refresh).await, replica.refresh(&ann.refresh).await];
    tokens.map(|reply| kid(reply.json["access_token"].as_str().unwrap()))
}

#[tokio::test]
async fn a_rotation_under_load_loses_no_request_and_no_session() {
    let (folder, app) = with_one_key().await;
    let replica = app.replica(&folder.settings()).await;
    let stop = Cell::new(false);
    let first = kids(&key_set(&app).await);
    let rest = async || tokio::time::sleep(Duration::from_millis(100)).await;
    let signer = async || kid(&app.user().await.access);
    let look = async || {
        app.look_at_keys().unwrap();
        rest().await;
        replica.look_at_keys().unwrap();
        rest().await;
    };
    let pass = async |seconds: i64| {
        for _ in 0..seconds / 10 {
            app.pass(10);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let operator = async {
        rest().await;
        // Another algorithm, too: the ring knows the one of each key.
        let next = folder.generate(Algorithm::EdDsa, app.now());
        look().await;
        assert_eq!(kids(&key_set(&app).await), [&first[0][..], &next], "published, and not signing");
        assert_eq!(signer().await, first[0]);
        assert_eq!(folder.rotate(app.now()), next);
        look().await;
        pass(290).await;
        assert_eq!(signer().await, first[0], "every key set that a client caches has the next key before it signs");
        pass(10).await;
        assert_eq!(signer().await, next);
        assert_eq!(kids(&key_set(&app).await), [&first[0][..], &next], "tokens of the first are still accepted");
        pass(600).await;
        assert_eq!(kids(&key_set(&app).await), [&next[..]], "the last token of the first has ended");
        rest().await;
        stop.set(true);
    };
    let used = || use_on_and_on(&app, &replica, &stop);
    let (.., one, two) = futures_util::future::join3(operator, used(), used()).await;
    println!("a rotation under load: {} refreshes at two replicas, none refused", one + two);
    assert!(one > 10 && two > 10);
}

/// Replica A gets the file of the next key at once, replica B four minutes later. Both publish it for a minute before
/// either signs with it, and both begin in the same second, without a message from A to B.
#[tokio::test]
async fn two_replicas_publish_a_key_before_they_sign_with_it() {
    let (folder, app) = with_one_key().await;
    let elsewhere = folder.copy();
    let replica = app.replica(&elsewhere.settings()).await;
    let first = kids(&key_set(&app).await)[0].clone();
    // Without a next key `rotate` makes one, and it is activated five minutes later.
    let next = folder.rotate(app.now());
    app.look_at_keys().unwrap();
    app.pass(240);
    folder.copy_to(&elsewhere);
    replica.look_at_keys().unwrap();
    let published = [key_set(&app).await, replica.anon().get("/.well-known/jwks.json").await.json];
    assert_eq!(published.map(|keys| kids(&keys)), [[&first[..], &next], [&first, &next]]);
    for _ in 0..6 {
        assert_eq!(signers(&app, &replica).await, [&first[..], &first]);
        app.pass(10);
    }
    assert_eq!(signers(&app, &replica).await, [&next[..], &next]);
}

#[tokio::test]
async fn a_token_of_a_retiring_key_verifies_until_it_ends() {
    let (folder, app) = with_one_key().await;
    let replica = app.replica(&folder.settings()).await;
    let next = folder.rotate(app.now());
    app.look_at_keys().unwrap();
    replica.look_at_keys().unwrap();
    app.pass(299);
    let last = app.user().await.access;
    app.pass(1);
    assert_ne!(kid(&last), next);
    assert_eq!(signers(&app, &replica).await, [&next[..], &next]);
    app.pass(298);
    assert_eq!((app.verify(&last).await, replica.verify(&last).await), (204, 204));
    app.pass(1);
    assert_eq!((app.verify(&last).await, replica.verify(&last).await), (401, 401));
}

/// A replica that starts in the middle of a rotation reads the same names, so it signs with the same key.
#[tokio::test]
async fn a_restart_changes_no_state() {
    let (folder, app) = with_one_key().await;
    let first = kids(&key_set(&app).await)[0].clone();
    let next = folder.rotate(app.now());
    app.look_at_keys().unwrap();
    app.pass(299);
    let replica = app.replica(&folder.settings()).await;
    assert_eq!(signers(&app, &replica).await, [&first[..], &first]);
    app.pass(1);
    let again = app.replica(&folder.settings()).await;
    assert_eq!(signers(&app, &replica).await, [&next[..], &next]);
    assert_eq!(signers(&app, &again).await, [&next[..], &next]);
}

/// The file of a key reaches one replica only after the activation: what that replica signed until then is accepted.
#[tokio::test]
async fn a_file_that_arrives_late_costs_no_session() {
    let (folder, app) = with_one_key().await;
    let elsewhere = folder.copy();
    let replica = app.replica(&elsewhere.settings()).await;
    let first = kids(&key_set(&app).await)[0].clone();
    let next = folder.rotate(app.now());
    app.look_at_keys().unwrap();
    app.pass(400);
    assert_eq!(signers(&app, &replica).await, [&next[..], &first]);
    let ann = app.user().await;
    let late = replica.refresh(&ann.refresh).await.json["access_token"].as_str().unwrap().to_owned();
    folder.copy_to(&elsewhere);
    replica.look_at_keys().unwrap();
    assert_eq!(signers(&app, &replica).await, [&next[..], &next]);
    app.pass(200);
    assert_eq!((app.verify(&late).await, replica.verify(&late).await), (204, 204));
}

#[tokio::test]
async fn keys_that_cannot_be_read_change_nothing() {
    let (folder, app) = with_one_key().await;
    let ann = app.user().await;
    let before = key_set(&app).await;
    // At a look at the folder, and at SIGHUP.
    let faults = |expected: &str| {
        let faults = [app.look_at_keys().err(), app.reload_keys(&folder.settings()).err()];
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
    assert_eq!((app.verify(&ann.access).await, app.user().await.actor.get("/auth/users/me").await.status), (204, 200));
    fs::remove_dir_all(&folder.path).unwrap();
    fs::rename(&elsewhere, &folder.path).unwrap();
    let next = folder.generate(Algorithm::Es256, app.now());
    app.look_at_keys().unwrap();
    assert!(kids(&key_set(&app).await).contains(&next), "the folder is back, and its changes are seen");
}

#[tokio::test]
async fn a_secret_in_the_folder_is_judged_as_one_in_a_setting() {
    let folder = Folder::new();
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
async fn a_key_that_leaked_is_gone_at_once() {
    let (folder, app) = with_one_key().await;
    let ann = app.user().await;
    let leaked = fs::read_dir(&folder.path).unwrap().next().unwrap().unwrap().path();
    app.pass(1);
    files::rotate(&folder.path, Algorithm::Es256, true, Timestamp(app.now())).unwrap();
    fs::remove_file(leaked).unwrap();
    app.look_at_keys().unwrap();
    let new = kids(&key_set(&app).await).remove(0);
    assert_ne!(new, kid(&ann.access));
    assert_eq!(app.verify(&ann.access).await, 401);
    let again = app.refresh(&ann.refresh).await;
    assert_eq!((again.status, kid(again.json["access_token"].as_str().unwrap())), (200, new), "the session goes on");
}

/// A replica that has the new key of refresh tokens beside one that has not: each knows both.
#[tokio::test]
async fn the_key_of_refresh_tokens_changes_without_a_lost_session() {
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
                assert_ne!(kid(next), kid(&token), "each signs with its own");
                token = next.to_owned();
            }
        }
        // Without it in either setting it is nobody's key any more.
        let later = old.replica(&[("JWT__REFRESH_KEY", NEW), rotation]).await;
        assert_eq!(later.refresh(&ann.refresh).await.status, 401);
        old.reload_keys(&[after[0], after[1]]).unwrap();
        assert_eq!(old.refresh(&token).await.status, 200, "and a key is reloaded without a restart");
    }
}

type Pair = (&'static str, &'static str);

#[tokio::test]
async fn a_key_must_fit_the_algorithm_and_its_public_half() {
    use signet::{app::load_settings, config::Sources};
    let load = |pairs: &[(&str, &str)]| {
        let environment = pairs.iter().map(|(name, value)| (format!("SIGNET__JWT__{name}"), (*value).to_owned()));
        load_settings(&Sources { directory: None, environment: environment.collect() })
            .map_err(|faults| faults.to_string())
    };
    let (p256, rsa, public) = (PAIRS[6].1, PAIRS[0].1, PAIRS[6].2);
    let rows: [(Vec<Pair>, Option<&str>); 17] = [
        (vec![("ALGORITHM", "ES256"), ("SIGNING_KEY", p256)], None),
        (vec![("ALGORITHM", "ES256"), ("SIGNING_KEY", p256), ("VERIFYING_KEY", public)], None),
        (vec![("SIGNING_KEY", SIGNING_KEY), ("VERIFYING_KEY", "anything")], None),
        (vec![("ALGORITHM", "ES256"), ("SIGNING_KEY", p256), ("VERIFYING_KEY", PAIRS[7].2)], Some("verifying_key")),
        (vec![("ALGORITHM", "ES256"), ("SIGNING_KEY", p256), ("VERIFYING_KEY", p256)], Some("is a private key")),
        (vec![("ALGORITHM", "ES256"), ("VERIFYING_KEY", public)], Some("together with jwt.signing_key")),
        (vec![("ALGORITHM", "ES256"), ("SIGNING_KEY", public)], Some("the private key belongs here")),
        (vec![("ALGORITHM", "RS256"), ("SIGNING_KEY", p256)], Some("is not an RSA key")),
        (vec![("ALGORITHM", "ES256"), ("SIGNING_KEY", rsa)], Some("curve P-256")),
        (vec![("ALGORITHM", "HS256"), ("SIGNING_KEY", rsa)], Some("is PEM")),
        (vec![("ALGORITHM", "HS512"), ("SIGNING_KEY", SIGNING_KEY)], Some("at least 64 bytes")),
        (vec![("ALGORITHM", "RS256"), ("SIGNING_KEY", include_str!("keys/rsa-1024.pem"))], Some("2048")),
        (vec![("SIGNING_KEY", SIGNING_KEY), ("KEYS_DIR", "keys")], Some("which of them signs")),
        (
            vec![("REFRESH_KEY", REFRESH_KEY), ("REFRESH_KEY_PREVIOUS", REFRESH_KEY)],
            Some("must not be jwt.refresh_key"),
        ),
        (
            vec![("SIGNING_KEY", SIGNING_KEY), ("REFRESH_KEY_PREVIOUS", SIGNING_KEY)],
            Some("must not be the signing key"),
        ),
        (vec![("REFRESH_KEY_PREVIOUS", "short")], Some("at least 32 bytes")),
        (vec![("REFRESH_KEY", rsa)], Some("is PEM")),
    ];
    all(
        "keys in settings",
        &rows,
        |(pairs, _)| format!("{:?}", pairs.iter().map(|(name, _)| name).collect::<Vec<_>>()),
        |(pairs, fault)| match (load(pairs), fault) {
            (Ok(_), None) => None,
            (Err(faults), Some(fault)) if faults.contains(fault) && !faults.contains("BEGIN") => None,
            (loaded, fault) => Some(format!("{:?} instead of {fault:?}", loaded.map(|_| ()))),
        },
    );
}

/// A replica that was started later, or again, knows the same keys by the same names.
#[tokio::test]
async fn a_restart_keeps_keys_and_names() {
    let mut app = signing_with("EdDSA", PAIRS[8].1, &[]).await;
    let ann = app.user().await;
    let before = key_set(&app).await;
    let database = std::mem::replace(&mut app.database, crate::support::TestDatabase::create().await);
    app.stop();
    eventually(true, async || app.has_stopped()).await;
    let app = TestApp::on(database, &[("JWT__ALGORITHM", "EdDSA"), ("JWT__SIGNING_KEY", PAIRS[8].1)]).await;
    assert_eq!(key_set(&app).await, before);
    assert_eq!(app.verify(&ann.access).await, 204);
}
