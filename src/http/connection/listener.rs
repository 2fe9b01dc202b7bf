//! The port that the service listens on.

use socket2::SockRef;
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener},
};
use tokio::net::TcpSocket;

/// How many connections may wait to be accepted, so that a burst of clients can connect.
const BACKLOG: u32 = 1024;

/// How many bytes of a response the kernel keeps for a client that does not read. It doubles this value (socket(7)); its
/// default is up to 4 MiB.
const SEND_BUFFER: u32 = 128 * 1024;

/// Binds a port and listens on it.
///
/// # Errors
/// When another process has the port, or this one may not bind it.
pub fn listen(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = if bind.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Otherwise a restart could not bind the port while connections of the previous process are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    // Every accepted connection inherits it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(bind)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Closes the port, even if another thread still has the socket: the kernel refuses new connections and resets those in
/// its queue.
pub fn close(listener: &TcpListener) {
    // Only Linux closes a listening socket this way; elsewhere the port closes when the server stops.
    let _ = SockRef::from(listener).shutdown(Shutdown::Read);
}
