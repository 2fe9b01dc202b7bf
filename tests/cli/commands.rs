//! `signet serve`, `healthcheck` and `openapi`

use crate::support::{
    SignedIn,
    actor::http_client,
    eventually,
    process::{KillOnDrop, Service, free_port, run, signet, text},
};
use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, process::Stdio};

#[tokio::test]
async fn serve_needs_no_settings_and_a_restart_keeps_users_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let (access, refresh);
    {
        let mut service = Service::start(folder.path(), &[]);
        assert!(
            service.welcome.contains("/docs/swagger/") && service.welcome.contains("curl http://"),
            "{}",
            service.welcome
        );
        assert_eq!(service.create("ann@example.com").await.status, 201);
        SignedIn { access, refresh, .. } = service.sign_in("ann@example.com").await;
        assert_eq!(service.end_with("TERM"), Some(0));
    }
    for file in ["signing_key", "refresh_key", "signet.db"] {
        let mode = fs::metadata(folder.path().join("data").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let mut service = Service::start(folder.path(), &[]);
    assert_eq!(service.bearer(&access).get("/auth/users").await.json[0]["email"], "ann@example.com");
    assert_eq!(service.refresh(&refresh).await.status, 200);
    service.sign_in("ann@example.com").await;
    assert_eq!(service.end_with("INT"), Some(0), "Ctrl-C");
}

#[tokio::test]
async fn healthcheck_exits_with_0_only_when_the_service_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let address = service.address.to_string();
    let check = |arguments: &[&str]| run(folder.path(), &[("SIGNET__SERVER__BIND", &address)], arguments, "");
    let output = check(&["healthcheck"]);
    assert!(output.status.success() && text(&output.stdout).contains("\"ready\""), "{output:?}");
    // Without its file the service is alive, but not ready.
    fs::rename(folder.path().join("data/signet.db"), folder.path().join("data/away")).unwrap();
    assert_eq!(check(&["healthcheck"]).status.code(), Some(1));
    assert!(check(&["healthcheck", "--live"]).status.success());
    drop(service);
    for arguments in [&["healthcheck"][..], &["healthcheck", "--live"]] {
        assert_eq!(check(arguments).status.code(), Some(1));
    }
}

/// Metrics reveal how many users there are and what they do: production serves them only at their own address.
#[tokio::test]
async fn production_serves_metrics_only_at_metrics_bind() {
    let folder = tempfile::tempdir().unwrap();
    let free = || SocketAddr::from(([127, 0, 0, 1], free_port()));
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
        http_client().build().unwrap().get(url).send().await.map_or(0, |reply| reply.status().as_u16())
    };
    for metrics_bind in [Some(("SIGNET__SERVER__METRICS_BIND", metrics_bind.as_str())), None] {
        let environment: Vec<_> = keys.iter().copied().chain(metrics_bind).collect();
        let _service = KillOnDrop(signet(folder.path(), &environment).stdout(Stdio::null()).spawn().unwrap());
        eventually(200, async || get(public, "/readyz").await).await;
        assert_eq!(get(public, "/metrics").await, 404);
        let expected = if metrics_bind.is_some() { [200, 404, 404] } else { [0, 0, 0] };
        let here = [get(own, "/metrics").await, get(own, "/auth/users").await, get(own, "/livez").await];
        assert_eq!(here, expected, "{metrics_bind:?}");
    }
}

#[test]
fn a_port_in_use_is_reported_with_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let output = run(folder.path(), &[("SIGNET__SERVER__BIND", &bind)], &[], "");
    let error = text(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("server.bind") && error.contains(&bind), "{output:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no database was created");
}

#[test]
fn openapi_prints_the_document_without_settings() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[("SIGNET__TYPO", "1")], &["openapi"], "");
    assert_eq!(text(&output.stdout), include_str!("../../openapi/openapi.json"));
}

/// In `signet … | head`, `head` closes the pipe, which is not an error. A full disk is one.
#[test]
fn a_closed_pipe_is_success_and_a_full_disk_is_exit_code_74() {
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
