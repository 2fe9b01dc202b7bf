//! Runs the nginx configuration of docs/verify-tokens.md in nginx, in front of a service that trusts its headers.

use super::{header, http_server};
use crate::support::{
    TestApp,
    actor::http_client,
    process::{KillOnDrop, find_program, free_port},
    within,
};
use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};
use tempfile::TempDir;

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify-tokens.md"));

/// Finds the nginx that `scripts/test` has unpacked, or an installed one.
fn nginx() -> Option<PathBuf> {
    let unpacked = env::var_os("SIGNET_TEST_NGINX").map(PathBuf::from);
    unpacked.filter(|program| program.is_file()).or_else(|| find_program("nginx"))
}

/// A service behind nginx. It replies with the length of the body and the value of `remote-user`.
fn service_behind() -> String {
    http_server(|head, body| format!("{} bytes of {}", body.len(), header(head, "remote-user").unwrap_or_default()))
}

/// The block of the page that has `/_verify`, with these addresses.
fn configuration(listen: &str, signet: &str, service: &str, folder: &TempDir) -> String {
    let block = PAGE.split("```nginx\n").skip(1).find(|block| block.contains("location = /_verify")).unwrap();
    let block = block.split("```").next().unwrap();
    let block = block.replace("listen 127.0.0.1:9000;", &format!("listen {listen};"));
    let block = block.replace("server 127.0.0.1:8000;", &format!("server {signet};"));
    // An operator sets such a limit for a service that accepts uploads; `/_verify` has its own limit.
    let block = block.replace("location / {", "location / {\n        client_max_body_size 50m;");
    let block = block.replace("http://127.0.0.1:9001", &format!("http://{service}"));
    let folder = folder.path().display();
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/a;\nuwsgi_temp_path {folder}/b;\nscgi_temp_path {folder}/c;\n\
         {block}\n}}\n"
    )
}

#[tokio::test]
async fn nginx_forwards_requests_of_any_size_with_a_valid_token() {
    let Some(program) = nginx() else { return };
    let app = TestApp::with(&[("JWT__AUDIENCE", "https://orders.example.com")]).await;
    let ann = app.user().await;
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let file = folder.path().join("nginx.conf");
    let text = configuration(&listen, &app.address.to_string(), &service_behind(), &folder);
    fs::write(&file, text).unwrap();
    let mut nginx = Command::new(program);
    let nginx = nginx.arg("-p").arg(folder.path()).arg("-c").arg(&file).stderr(Stdio::null());
    let mut nginx = KillOnDrop(nginx.spawn().unwrap());
    assert!(within(10, nginx.accepts_connections(&listen)).await);

    let client = http_client().build().unwrap();
    let upload = async |token: &str, size: usize| {
        let request = client.post(format!("http://{listen}/upload")).bearer_auth(token).header("remote-user", "root");
        let reply = request.body(vec![b'a'; size]).send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    };
    for size in [0, 1000, 2 * 1024 * 1024] {
        let (status, text) = upload(&ann.access, size).await;
        assert_eq!((status, text), (200, format!("{size} bytes of {}", ann.email)));
    }
    assert_eq!(upload("no token", 1000).await.0, 401);
    app.sign_out(&ann.refresh).await;
    assert_eq!(upload(&ann.access, 2 * 1024 * 1024).await.0, 401);
}
