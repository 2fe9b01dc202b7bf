//! The port that the service listens on: taken at the start, given back at the end.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};
use tokio::net::TcpSocket;

/// How much of an answer the kernel keeps for a client, in bytes. Left to itself it would be 4 MiB.
const SEND_BUFFER: u32 = 128 * 1024;

/// Takes a port. Many may knock at once: a short backlog would make their connections fail before we see them.
///
/// # Errors
/// When somebody else has it, or it is none of ours to take.
pub fn listen(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = if bind.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait until the last connections of the one before are forgotten.
    socket.set_reuseaddr(true)?;
    // For each connection: what a client that reads nothing can have in the kernel (which doubles it, socket(7)).
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(bind)?;
    socket.listen(1024)?.into_std()
}

/// From now on nobody who knocks is heard; who was let in, or is being let in, is. The kernel would otherwise reset what
/// it has queued by the time that the port is closed, and there is no moment in which nothing is.
///
/// Who knocks again, as every client's kernel does after a second, finds the port closed by then.
///
/// # Errors
/// When the kernel knows no such filter.
#[cfg(target_os = "linux")]
pub fn let_nobody_in(listener: &TcpListener) -> io::Result<()> {
    use socket2::{SockFilter, SockRef};
    // In classic BPF (socket(7), SO_ATTACH_FILTER), over the header of TCP (RFC 9293 §3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let only_that_is_no_knock = [
        SockFilter::new(0x30, 0, 0, FLAGS),     // A = the flags
        SockFilter::new(0x54, 0, 0, SYN | ACK), // A &= SYN | ACK
        SockFilter::new(0x15, 0, 1, SYN),       // a SYN alone: the next, and otherwise the last
        SockFilter::new(0x06, 0, 0, 0),         // drop it
        SockFilter::new(0x06, 0, 0, u32::MAX),  // take it whole
    ];
    SockRef::from(listener).attach_filter(&only_that_is_no_knock)
}

/// Elsewhere there is no such filter.
#[cfg(not(target_os = "linux"))]
pub fn let_nobody_in(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::{
        io::{ErrorKind, Read, Write},
        net::TcpStream,
        time::Duration,
    };

    #[test]
    fn who_is_in_the_queue_is_let_in_and_nobody_after_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = TcpStream::connect(address).unwrap();
        let_nobody_in(&listener).unwrap();
        let knocks = TcpStream::connect_timeout(&address, Duration::from_millis(300)).map_err(|error| error.kind());
        assert_eq!(knocks.err(), Some(ErrorKind::TimedOut));
        queued.write_all(b"asked").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let mut asked = [0; 5];
        accepted.read_exact(&mut asked).unwrap();
        accepted.write_all(b"answered").unwrap();
        drop((accepted, listener));
        let mut answered = String::new();
        queued.read_to_string(&mut answered).unwrap();
        assert_eq!((&asked[..], &*answered), (&b"asked"[..], "answered"));
        assert_eq!(TcpStream::connect(address).map_err(|error| error.kind()).err(), Some(ErrorKind::ConnectionRefused));
    }
}
