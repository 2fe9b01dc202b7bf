//! The configuration of nginx in docs/verify-tokens.md, in a real nginx, with a service behind it that trusts what it is told.

use crate::support::{TestApp, postgres::free_port, process::Killed, within};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify-tokens.md"));

/// nginx, where it is installed or `scripts/test` has unpacked it.
fn nginx() -> Option<PathBuf> {
    let unpacked = env::var_os("SIGNET_TEST_NGINX").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let program = unpacked.into_iter().chain(folders.map(|folder| folder.join("nginx"))).find(|path| path.is_file());
    if program.is_none() {
        println!("forward-auth: left out, nginx is not installed");
    }
    program
}

/// A service behind the proxy: it answers each request with the length of its body and with what the proxy says of its user.
fn service_behind() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut length, mut user, mut line) = (0, String::new(), String::new());
            while stream.read_line(&mut line).unwrap_or(0) > 2 {
                let header = line.trim().to_ascii_lowercase();
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if let Some(value) = header.strip_prefix("remote-user:") {
                    value.trim().clone_into(&mut user);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let reply = format!("{length} bytes of {user}");
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", reply.len());
            let _ = stream.get_mut().write_all((head + &reply).as_bytes());
        }
    });
    address
}

/// The `server` block of the page that has `/_verify`, for these addresses and without TLS.
fn configuration(listen: &str, signet: &str, service: &str, folder: &TempDir) -> String {
    let block = PAGE.split("```nginx\n").skip(1).find(|block| block.contains("location = /_verify")).unwrap();
    let block = block.split("```").next().unwrap();
    let block = block.lines().filter(|line| !line.contains("ssl_certificate")).collect::<Vec<_>>().join("\n");
    let block = block.replace("listen 443 ssl;", &format!("listen {listen};"));
    // As a service has it that takes uploads; `/_verify` has limits of its own.
    let block = block.replace("location / {", "location / {\n        client_max_body_size 50m;");
    let block = block.replace("http://127.0.0.1:9000", &format!("http://{service}"));
    let folder = folder.path().display();
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/a;\nuwsgi_temp_path {folder}/b;\nscgi_temp_path {folder}/c;\n\
         upstream signet {{ server {signet}; }}\n{block}\n}}\n"
    )
}

#[tokio::test]
async fn nginx_lets_a_request_with_a_good_token_pass_however_large_it_is() {
    let Some(program) = nginx() else { return };
    let app = TestApp::start().await;
    let ann = app.user().await;
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let file = folder.path().join("nginx.conf");
    let text = configuration(&listen, &app.address.to_string(), &service_behind(), &folder);
    fs::write(&file, text).unwrap();
    let mut nginx = Command::new(program);
    let nginx = nginx.arg("-p").arg(folder.path()).arg("-c").arg(&file).stderr(Stdio::null());
    let _nginx = Killed(nginx.spawn().unwrap());
    within(10, async {
        while tokio::net::TcpStream::connect(&listen).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;

    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
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
