//! `signet healthcheck`: a health check for container images without curl.

use super::{Failure, say};
use crate::config::Server;
use clap::Args;
use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

/// How long the check waits for each step of the request.
const TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Args)]
pub(super) struct Healthcheck {
    /// Check whether the service is alive, which it is while the database is away
    #[arg(long)]
    live: bool,
}

/// Requests `/readyz`, or `/livez`, of the service that these settings describe, and prints the response.
pub(super) fn run(check: &Healthcheck, server: &Server) -> Result<ExitCode, Failure> {
    let probe = if check.live { "livez" } else { "readyz" };
    let mut stream = TcpStream::connect_timeout(&reachable(server.bind), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let path = format!("{}/{probe}", &*server.base_path);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.take(64 * 1024).read_to_string(&mut reply)?;
    let is_good = reply.starts_with("HTTP/1.1 200 ");
    say(reply.split("\r\n\r\n").nth(1).unwrap_or("no response"));
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The address to connect to: loopback for a service that listens on all addresses.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}
