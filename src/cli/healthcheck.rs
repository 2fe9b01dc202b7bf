//! `signet healthcheck`: for images without a shell or curl.

use super::{Failure, say};
use crate::config::Server;
use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(4);

/// Asks the service that these settings describe whether it is ready.
pub(super) fn run(server: &Server) -> Result<ExitCode, Failure> {
    let mut stream = TcpStream::connect_timeout(&reachable(server.bind), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let path = format!("{}/readyz", &*server.base_path);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.take(64 * 1024).read_to_string(&mut reply)?;
    let is_ready = reply.starts_with("HTTP/1.1 200 ");
    say(reply.split("\r\n\r\n").nth(1).unwrap_or("no answer"));
    Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An address that listens everywhere is asked at the loopback.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}
