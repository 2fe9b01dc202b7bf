//! Signet together with programs and libraries that other projects wrote.

mod forward_auth;
mod openapi_clients;
mod revocation_followers;
mod rust_example;
mod smtp;
mod swagger;
mod token_libraries;
mod traces;

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

/// The folder where `scripts/test` has installed the programs and libraries. If they are not installed, prints that the
/// test is skipped.
fn installed() -> Option<PathBuf> {
    let installed = env::var_os("SIGNET_TEST_OTHERS").map(PathBuf::from);
    if installed.is_none() {
        println!("skipped: the programs and libraries that scripts/test installs are missing");
    }
    installed
}

/// A file in `tests/interop/programs`, for one of these programs.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/programs").join(name)
}

/// An HTTP server on its own threads; returns its address. `reply` gets the head of a request in lower case and its body,
/// and returns the body of the reply.
fn http_server(reply: impl Fn(&str, &[u8]) -> String + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let reply = Arc::new(reply);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, reply) = (BufReader::new(stream.unwrap()), Arc::clone(&reply));
            thread::spawn(move || {
                let mut head = String::new();
                while stream.read_line(&mut head).is_ok_and(|read| read > 0) {
                    if !head.ends_with("\r\n\r\n") {
                        continue;
                    }
                    head.make_ascii_lowercase();
                    let mut body = vec![0; header(&head, "content-length").map_or(0, |length| length.parse().unwrap())];
                    stream.read_exact(&mut body).unwrap();
                    let text = reply(&head, &body);
                    let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                    // The client may have closed the connection.
                    let _ = stream.get_mut().write_all(reply.as_bytes());
                    head.clear();
                }
            });
        }
    });
    address
}

/// The value of a header in a request head that is in lower case.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
