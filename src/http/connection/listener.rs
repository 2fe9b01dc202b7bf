//! The port that the service listens on.

use socket2::SockRef;
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener},
};
use tokio::net::TcpSocket;

/// How many connections may wait to be accepted: with a short queue a burst of them would fail.
const BACKLOG: u32 = 1024;

/// How much of a response the kernel keeps for a client that does not read, in bytes. It doubles this (socket(7)); without
/// the option it would keep up to 4 MiB.
const SEND_BUFFER: u32 = 128 * 1024;

/// Binds a port and listens on it.
///
/// # Errors
/// When another process has the port, or this one may not bind it.
pub fn listen(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = if bind.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart does not wait until the kernel forgets the last connections of the process before.
    socket.set_reuseaddr(true)?;
    // Every accepted connection inherits it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(bind)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Closes the port, whichever process or thread still has the socket: the kernel refuses new connections from now on, and
/// resets those that it has queued.
pub fn close(listener: &TcpListener) {
    // Only Linux closes a listening socket so; elsewhere the port is closed when the server stops.
    let _ = SockRef::from(listener).shutdown(Shutdown::Read);
}
