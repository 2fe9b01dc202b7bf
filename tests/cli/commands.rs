//! `signet serve` and the commands beside it

use crate::support::{
    PASSWORD,
    actor::http_client,
    eventually,
    process::{Killed, Service, run, signet, text},
};
use serde_json::json;
use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, process::Stdio};

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
fn the_document_is_printed_without_settings() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[("SIGNET__TYPO", "1")], &["openapi"], "");
    assert_eq!(text(&output.stdout), include_str!("../../openapi/openapi.json"));
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
