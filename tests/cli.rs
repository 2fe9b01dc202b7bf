//! The program as an operator runs it: a process, its output and its exit code.

use crate::support::{
    PASSWORD,
    actor::{Actor, http_client},
    database::TestDatabase,
    eventually,
    process::{Killed, Service, run, send_signal, signet, text},
    token::take_apart,
    within,
};
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;

#[tokio::test]
async fn one_command_serves_and_a_second_start_knows_users_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = json!({"email": "ann@example.com", "password": PASSWORD});
    let (access, refresh);
    {
        let mut service = Service::start(folder.path(), &[]);
        assert!(
            service.welcome.contains("/docs/swagger/") && service.welcome.contains("curl http://"),
            "{}",
            service.welcome
        );
        assert_eq!(service.anon().post("/auth/create", &credentials).await.status, 201);
        let tokens = service.anon().post("/auth/signin", &credentials).await.json;
        access = tokens["access_token"].as_str().unwrap().to_owned();
        refresh = json!({ "refresh_token": tokens["refresh_token"] });
        assert_eq!(service.signal("TERM"), Some(0));
    }
    for file in ["signing_key", "refresh_key", "signet.db"] {
        let mode = fs::metadata(folder.path().join("data").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let mut service = Service::start(folder.path(), &[]);
    assert_eq!(service.bearer(&access).get("/auth/users").await.json[0]["email"], "ann@example.com");
    assert_eq!(service.anon().post("/auth/refresh-access", &refresh).await.status, 200);
    assert_eq!(service.anon().post("/auth/signin", &credentials).await.status, 200);
    assert_eq!(service.signal("INT"), Some(0), "Ctrl-C");
}

#[tokio::test]
async fn healthcheck_says_whether_the_service_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let address = service.address.to_string();
    let check = |bind: &str| run(folder.path(), &[("SIGNET__SERVER__BIND", bind)], &["healthcheck"], "");
    let output = check(&address);
    assert!(output.status.success() && text(&output.stdout).contains("\"ready\""), "{output:?}");
    drop(service);
    assert_eq!(check(&address).status.code(), Some(1));
}

/// Numbers about users are not for everybody: in production they are served where they are asked to be, or nowhere.
#[tokio::test]
async fn metrics_have_an_address_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (public, own) = (free(), free());
    let (bind, metrics_bind) = (public.to_string(), own.to_string());
    let keys = [
        ("SIGNET_PROFILE", "production"),
        ("SIGNET__SERVER__BIND", bind.as_str()),
        ("SIGNET__JWT__SIGNING_KEY", "0123456789abcdefghijklmnopqrstuvwxyz"),
        ("SIGNET__JWT__REFRESH_KEY", "zyxwvutsrqponmlkjihgfedcba9876543210"),
    ];
    let get = async |address: SocketAddr, path: &str| {
        let url = format!("http://{address}{path}");
        http_client().get(url).send().await.map_or(0, |reply| reply.status().as_u16())
    };
    for metrics_bind in [Some(("SIGNET__SERVER__METRICS_BIND", metrics_bind.as_str())), None] {
        let environment: Vec<_> = keys.iter().copied().chain(metrics_bind).collect();
        let _service = Killed(signet(folder.path(), &environment).stdout(Stdio::null()).spawn().unwrap());
        eventually(200, async || get(public, "/readyz").await).await;
        assert_eq!(get(public, "/metrics").await, 404);
        let expected = if metrics_bind.is_some() { [200, 404, 404] } else { [0, 0, 0] };
        let here = [get(own, "/metrics").await, get(own, "/auth/users").await, get(own, "/livez").await];
        assert_eq!(here, expected, "{metrics_bind:?}");
    }
}

/// The keys of a folder, from the first to the second, as an operator changes them. The service looks every ten seconds;
/// SIGHUP makes it look now.
#[tokio::test]
async fn keys_are_made_listed_rotated_and_reloaded() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("SIGNET__JWT__KEYS_DIR", "keys"), ("SIGNET__JWT__ALGORITHM", "ES256")];
    let keys = |arguments: &[&str]| {
        let output = run(folder.path(), &environment, &[&["keys"], arguments].concat(), "");
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    let json = |arguments: &[&str]| -> Vec<Value> {
        keys(arguments).1.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let states = || json(&["list", "--json"]).iter().map(|key| key["state"].clone()).collect::<Vec<_>>();

    // Without a key nothing starts, and the message says what to do.
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
    let key_set = async || service.anon().get("/.well-known/jwks.json").await.json["keys"].as_array().unwrap().len();
    assert_eq!((key_set().await, states()), (1, vec![json!("active")]));
    let credentials = json!({"email": "ann@example.com", "password": PASSWORD});
    service.anon().post("/auth/create", &credentials).await;
    let sign_in = async || {
        let reply = service.anon().post("/auth/signin", &credentials).await.json;
        reply["access_token"].as_str().unwrap().to_owned()
    };
    let old = sign_in().await;

    assert!(keys(&["generate"]).1.contains("is next"));
    assert!(keys(&["generate"]).1.contains("is next already"));
    assert_eq!(states(), [json!("active"), json!("next")]);
    within(15, async {
        while key_set().await != 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(kid(&sign_in().await), kid(&old));

    let rotated = json(&["rotate", "--now", "--json"]).remove(0);
    service.hang_up();
    eventually(rotated["kid"].clone(), async || kid(&sign_in().await)).await;
    assert_eq!(states(), [json!("retiring"), json!("active")]);
    assert_eq!(service.bearer(&old).get("/auth/users").await.status, 200);

    // A folder that cannot be read changes nothing; once it is repaired, it is read the next time.
    let broken = folder.path().join("keys/broken.pem");
    fs::write(&broken, "broken").unwrap();
    service.hang_up();
    let told = || service.said("the keys stay as they are: keys/broken.pem: is not PEM");
    eventually(true, async || told()).await;
    assert_eq!((key_set().await, kid(&sign_in().await)), (2, rotated["kid"].clone()));
    fs::remove_file(broken).unwrap();

    // The log says what the removal of a key does.
    let first = json(&["list", "--json"])[0]["file"].as_str().unwrap().to_owned();
    fs::remove_file(folder.path().join("keys").join(first)).unwrap();
    service.hang_up();
    let told = || service.said("a key is gone: the access tokens that it signed are refused now");
    eventually(true, async || told()).await;
    assert_eq!(service.bearer(&old).get("/auth/users").await.status, 401);
    assert_eq!(service.signal("TERM"), Some(0));
}

/// What would be waited for, or never end, is refused before it is read.
#[test]
fn a_secret_is_read_from_a_regular_file_of_a_sane_length() {
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
    // The same in the folder of keys.
    for (file, fault) in rows.iter().filter(|(file, _)| Path::new(file).is_file() || file.ends_with("pipe")) {
        let link = folder.path().join("keys/mine.HS256.secret");
        std::os::unix::fs::symlink(file, &link).unwrap();
        let output = run(folder.path(), &[("SIGNET__JWT__KEYS_DIR", "keys")], &["config", "check"], "");
        let fault = if file.ends_with("empty") { "at least 32 bytes" } else { fault };
        assert!(output.status.code() == Some(78) && text(&output.stderr).contains(fault), "{file}: {output:?}");
        fs::remove_file(link).unwrap();
    }
}

/// What one of them cannot use the other does not call right.
#[test]
fn a_check_of_the_settings_finds_what_serving_would() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(folder.path().join("folder")).unwrap();
    fs::write(folder.path().join("text"), "no database, but more than sixteen bytes").unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/signing_key"), "short").unwrap();
    let rows = [
        ("DATABASE__URL", format!("sqlite://{}", path("folder")), "not a regular file"),
        ("DATABASE__URL", format!("sqlite://{}", path("text")), "another kind of file"),
        ("DATABASE__URL", format!("sqlite://{}", path("text/signet.db")), "cannot be created"),
        ("DATABASE__URL", "postgres://u:p@127.0.0.1:1/a?sslmod=require".to_owned(), "unknown parameter"),
        ("SERVER__BASE_PATH", String::new(), "signing_key: must have at least 32 bytes"),
    ];
    for (name, value, fault) in &rows {
        let environment = [(&*format!("SIGNET__{name}"), &**value), ("SIGNET__SERVER__BIND", "127.0.0.1:0")];
        for command in [&["config", "check"][..], &["serve"]] {
            let output = run(folder.path(), &environment, command, "");
            let said = text(&output.stderr);
            assert!(output.status.code() == Some(78) && said.contains(fault), "{command:?}, {value}: {output:?}");
        }
    }
}

#[test]
fn a_check_of_the_settings_checks_the_folder_of_keys_and_makes_none() {
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
    assert!(code == 78 && said.contains("keys/mine.secret: must say in its name what it is for"), "{said}");
    fs::rename(folder.path().join("keys/mine.secret"), folder.path().join("keys/20260231T000000Z.secret")).unwrap();
    let (code, said) = check(&[]);
    assert!(code == 78 && said.contains("20260231T000000Z.secret: must have a time"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no key was made");
}

fn kid(token: &str) -> Value {
    take_apart(token).header["kid"].clone()
}

#[test]
fn wrong_settings_end_with_78_and_nothing_half_started() {
    let folder = tempfile::tempdir().unwrap();
    let environment =
        [("SIGNET__SERVER__BIND", "nowhere"), ("SIGNET__JWT__SIGNING_KEY", "hunter2"), ("SIGNET__TYPO__KEY", "1")];
    for arguments in [
        &["serve"][..],
        &[],
        &["config", "check"],
        &["config", "print"],
        &["migrate"],
        &["user", "list"],
        &["healthcheck"],
    ] {
        let output = run(folder.path(), &environment, arguments, "");
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {output:?}");
        let error = text(&output.stderr);
        assert!(
            error.contains("SIGNET__SERVER__BIND") && error.contains("SIGNET__TYPO__KEY") && !error.contains("hunter2"),
            "{error}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no file was made");
    let output = run(folder.path(), &[], &["config", "check"], "");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "The settings are right.\n"));
}

#[test]
fn a_taken_port_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let output = run(folder.path(), &[("SIGNET__SERVER__BIND", &bind)], &[], "");
    let error = text(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("server.bind") && error.contains(&bind), "{output:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no database was made");
}

#[test]
fn printed_settings_show_where_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[("SIGNET__USERS__LIST", "staff")], &["config", "print"], "");
    assert!(text(&output.stdout).contains("users.list = \"staff\"  # SIGNET__USERS__LIST"), "{output:?}");
}

#[test]
fn the_document_is_printed_without_settings() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[("SIGNET__TYPO", "1")], &["openapi"], "");
    assert_eq!(text(&output.stdout), include_str!("../openapi/openapi.json"));
}

/// `signet … | head` has had enough; a full disk has not.
#[test]
fn output_that_cannot_be_written_is_told_from_one_that_nobody_reads_on() {
    for arguments in [&["openapi"][..], &["config", "print"], &["config", "check"], &["keys", "generate"]] {
        let folder = tempfile::tempdir().unwrap();
        let environment = [("SIGNET__JWT__KEYS_DIR", "keys")];
        let environment = if arguments[0] == "keys" { &environment[..] } else { &[] };
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = signet(folder.path(), environment).args(arguments).stdout(writer).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let output = signet(folder.path(), environment).args(arguments).stdout(full).output().unwrap();
        assert!(output.status.code() == Some(74) && text(&output.stderr).contains("cannot be written"), "{output:?}");
    }
}

/// A database for the command line, and how to reach it.
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

    /// A `user` command that succeeds, and what it printed as JSON.
    fn user(&self, arguments: &[&str], input: &str) -> Value {
        let output = self.run(&[&["user"], arguments, &["--json"]].concat(), input);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {output:?}"))
    }

    /// A `user` command that fails, and what it said.
    fn refused(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(&[&["user"], arguments].concat(), input);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        text(&output.stderr)
    }
}

#[tokio::test]
async fn the_operator_looks_after_users() {
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
    for who in ["2", "ANN@example.com", "ann"] {
        assert_eq!(operator.user(&["show", who], "")["id"], 2, "{who}");
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
    let token = |reply: crate::support::Reply| reply.json["access_token"].as_str().unwrap().to_owned();
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
    assert_eq!(
        (me(&before).await, sign_in("another horse").await.status),
        (401, 200),
        "ended sessions do not come back"
    );
    let before = token(sign_in("another horse").await);
    assert_eq!(operator.user(&["delete", "2"], "")["id"], 2);
    assert_eq!((me(&before).await, sign_in("another horse").await.status), (401, 401));
}

#[tokio::test]
async fn a_password_is_no_argument() {
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
async fn a_log_line_holds_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let environment = [
        ("SIGNET__TELEMETRY__LOG", "debug"),
        ("SIGNET__TELEMETRY__FORMAT", "json"),
        ("SIGNET__SERVER__BIND", "127.0.0.1:0"),
    ];
    let child = signet(folder.path(), &environment).stdout(fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut child = Killed(child);
    let address = loop {
        let text = fs::read_to_string(&log).unwrap();
        if let Some(rest) = text.split("listening on http://").nth(1).filter(|rest| rest.contains('\n')) {
            break rest.lines().next().unwrap().parse().unwrap();
        }
        assert_eq!(child.0.try_wait().unwrap(), None, "it ended: {text}");
        std::thread::yield_now();
    };
    let anon = Actor::new(http_client(), address, None);
    let credentials = json!({"email": "canary-address@example.com", "password": "canary password"});
    anon.post("/auth/create", &credentials).await;
    let tokens = anon.post("/auth/signin", &credentials).await.json;
    anon.post("/auth/signin", &json!({"email": "canary-address@example.com", "password": "canary wrong"})).await;
    anon.post("/auth/refresh-access", &json!({"refresh_token": tokens["refresh_token"]})).await;
    anon.get("/auth/users?q=canary-address&access_token=canary-token").await;
    let access = tokens["access_token"].as_str().unwrap();
    Actor::new(http_client(), address, Some(access.to_owned())).get("/auth/users?q=canary-address").await;
    // Lines are written beside the requests; what a killed service has not written yet is lost.
    send_signal(&child.0, "TERM");
    child.0.wait().unwrap();
    let text = fs::read_to_string(&log).unwrap();
    let lines = text.lines().filter(|line| line.contains("\"answered\"")).count();
    assert_eq!(lines, 6, "one line for each request");
    let signature = access.rsplit('.').next().unwrap();
    for line in text.lines() {
        for secret in ["canary", signature, "$argon2"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}
