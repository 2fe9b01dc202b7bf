//! Bounds what a connection costs in memory, CPU and time, whatever its client sends and however little it reads.
//!
//! * **Memory, CPU**: actix-http gets one head of a request at a time, and nothing while a request is served or a response
//!   waits to be written. So no request waits in its queue, and connections take turns request by request.
//! * **Time**: the client has `timeout` for a request, counted from its first byte. A response that the socket does not take
//!   has the same `timeout`, extended while the client reads.

use super::{client_connection::ClientConnection, final_response::ConnectionState};
use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Instant, Sleep, sleep},
};

/// How many bytes a client may send between two responses. A client that reads its responses never sends as many.
const MAX_UNANSWERED: usize = 32 * 1024 * 1024;

/// How many bytes are read from the socket at a time, and kept here until actix-http may get them.
const PIECE: usize = 4 * 1024;

/// How long the stream reads, and drops, what a client sends after the final response.
const LINGER: Duration = Duration::from_secs(1);

/// The slowest rate, in bytes per second, at which a client may read a response after `timeout`.
const MIN_READ_RATE: u32 = 8 * 1024;

pub(super) struct GuardedStream {
    tcp: TcpStream,
    connection: ConnectionState,
    /// Tells the requests of this connection that the client has closed its side.
    is_closed: watch::Sender<bool>,
    timeout: Duration,
    /// `timeout` after the first byte since the last response.
    read_deadline: Pin<Box<Sleep>>,
    /// The number of bytes handed to actix-http or dropped since the last response.
    unanswered: usize,
    /// Bytes read from the socket. Those from `handed` on have not yet been handed to actix-http.
    piece: Vec<u8>,
    handed: usize,
    head_end: HeadEnd,
    /// Whether actix-http has got the end of a head or of a body, but has not parsed it yet.
    is_part_complete: bool,
    /// Whether reading waits until a response is written.
    is_paused: bool,
    /// Whether the socket takes no more bytes.
    is_blocked: bool,
    /// When the response must be written; set when the socket first takes no more bytes of it.
    write_deadline: Option<Pin<Box<Sleep>>>,
}

impl GuardedStream {
    /// A stream whose client has `request_timeout` for the head of a request, and again for its body.
    pub fn new(tcp: TcpStream, request_timeout: Duration) -> Self {
        // 5 s for the response, which has time-outs of its own.
        let timeout = 2 * request_timeout + Duration::from_secs(5);
        Self {
            tcp,
            connection: ConnectionState::default(),
            is_closed: watch::Sender::new(false),
            timeout,
            read_deadline: Box::pin(sleep(timeout)),
            unanswered: 0,
            piece: Vec::new(),
            handed: 0,
            head_end: HeadEnd::default(),
            is_part_complete: false,
            is_paused: false,
            is_blocked: false,
            write_deadline: None,
        }
    }

    /// For the requests of this connection.
    pub fn client_connection(&self) -> ClientConnection {
        ClientConnection::new(self.is_closed.subscribe())
    }

    /// For the requests of this connection.
    pub fn state(&self) -> ConnectionState {
        self.connection.clone()
    }

    /// Whether the client has used up its time or its bytes. While a connection waits for its next request,
    /// `server.keep_alive` limits its time instead.
    fn is_over_limit(&mut self, context: &mut Context<'_>) -> bool {
        let is_timed = self.unanswered > 0 || self.connection.is_closing();
        self.unanswered > MAX_UNANSWERED || is_timed && self.read_deadline.as_mut().poll(context).is_ready()
    }

    fn restart_read_deadline(&mut self) {
        let deadline = Instant::now() + self.timeout;
        self.read_deadline.as_mut().reset(deadline);
    }

    /// Reads the next piece from the socket, after the previous one was handed on.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = [MaybeUninit::uninit(); PIECE];
        let mut buffer = ReadBuf::uninit(&mut buffer);
        let outcome = ready!(Pin::new(&mut self.tcp).poll_read(context, &mut buffer));
        let read = buffer.filled().len();
        if outcome.is_err() || read == 0 {
            // The client closed its side, or reset the connection, which actix-http treats the same.
            self.is_closed.send_replace(true);
        }
        outcome?;
        self.piece.clear();
        self.piece.extend_from_slice(buffer.filled());
        self.handed = 0;
        Poll::Ready(Ok(read))
    }

    /// Drops what the client sends after the final response, until it closes its side or is over its limit: closing at
    /// once would reset the connection, and the client could lose the response.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unanswered <= MAX_UNANSWERED {
            match ready!(self.poll_fill(context))? {
                0 => break,
                count => self.unanswered += count,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Hands on what was read, up to the end of a head or of a body.
    fn hand_on(&mut self, into: &mut ReadBuf<'_>) {
        let rest = &self.piece[self.handed..];
        let most = &rest[..rest.len().min(into.remaining())];
        let end = match self.connection.body_left().map(|left| usize::try_from(left).unwrap_or(usize::MAX)) {
            Some(left) => (left <= most.len()).then_some(left),
            None => self.head_end.find(most),
        };
        let next = &most[..end.unwrap_or(most.len())];
        into.put_slice(next);
        let count = next.len();
        self.handed += count;
        self.connection.handed_on(count);
        self.is_part_complete = end.is_some();
        if self.unanswered == 0 {
            self.restart_read_deadline();
        }
        self.unanswered += count;
    }

    fn has_piece(&self) -> bool {
        self.handed < self.piece.len()
    }

    /// Records that the socket took `count` bytes of a response.
    fn has_written(&mut self, count: usize, context: &mut Context<'_>) {
        self.unanswered = 0;
        if let Some(deadline) = &mut self.write_deadline {
            let earned = Duration::from_secs(1) * u32::try_from(count).unwrap_or(u32::MAX) / MIN_READ_RATE;
            let later = deadline.deadline() + earned;
            deadline.as_mut().reset(later);
        }
        if std::mem::take(&mut self.is_blocked) | std::mem::take(&mut self.is_paused) {
            // Reading continues. The dispatcher reads before it writes, so it must be polled once more.
            context.waker().wake_by_ref();
        }
    }

    /// Records that the socket takes no more bytes. Fails once `write_deadline` has passed.
    fn poll_blocked(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.is_blocked = true;
        let timeout = self.timeout;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(deadline.as_mut().poll(context));
        // The client does not read: reset the connection, so that the kernel drops the unsent bytes.
        let _ = self.tcp.set_zero_linger();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_over_limit(context) {
            // As if the client had closed its side: the current response is still written, and nothing more is read.
            return Poll::Ready(Ok(()));
        }
        if self.is_blocked {
            // `has_written` wakes the dispatcher.
            return Poll::Pending;
        }
        if std::mem::take(&mut self.is_part_complete) {
            // The dispatcher parses once a read is pending, so this read is pending until the dispatcher is polled again.
            if self.has_piece() || self.tcp.poll_read_ready(context).is_ready() {
                context.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        if self.connection.is_closing() {
            return self.poll_discard(context);
        }
        let is_serving = self.connection.is_serving();
        if !self.has_piece() && ready!(self.poll_fill(context))? == 0 {
            return Poll::Ready(Ok(()));
        }
        if is_serving {
            // The next request, which waits for the response to this one.
            self.is_paused = true;
            return Poll::Pending;
        }
        self.hand_on(into);
        Poll::Ready(Ok(()))
    }
}

/// Finds the end of a request's head: an empty line. (An empty line in a body does no harm.)
#[derive(Default)]
struct HeadEnd {
    /// Whether there was anything but line ends: line ends before a request are skipped (RFC 9112 §2.2).
    has_text: bool,
    /// Whether the last byte, apart from carriage returns, was the end of a line.
    is_line_begun: bool,
}

impl HeadEnd {
    /// Where the first head in `bytes` ends; `bytes` continue those of the previous call.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        for (place, byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' if self.is_line_begun && self.has_text => {
                    *self = Self::default();
                    return Some(place + 1);
                }
                b'\n' => self.is_line_begun = true,
                b'\r' => {}
                _ => {
                    self.has_text = true;
                    self.is_line_begun = false;
                }
            }
        }
        None
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.connection.is_closed() {
            // The response to a request that follows the final response is dropped.
            return Poll::Ready(Ok(bytes.len()));
        }
        match Pin::new(&mut self.tcp).poll_write(context, bytes) {
            Poll::Pending => self.poll_blocked(context),
            Poll::Ready(Ok(count @ 1..)) => {
                self.has_written(count, context);
                Poll::Ready(Ok(count))
            }
            written @ Poll::Ready(_) => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.tcp).poll_flush(context))?;
        self.write_deadline = None;
        if self.connection.flushed() {
            self.read_deadline.as_mut().reset(Instant::now() + LINGER);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_is_found_however_it_is_split_into_reads() {
        let text = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\n\nrest";
        for cut in 0..text.len() {
            let (mut head_end, mut ends, mut from) = (HeadEnd::default(), Vec::new(), 0);
            for to in [cut, text.len()] {
                while let Some(end) = head_end.find(&text[from..to]) {
                    from += end;
                    ends.push(from);
                }
                from = to;
            }
            assert_eq!(ends, [27, 44], "{cut}");
        }
        assert_eq!(HeadEnd::default().find(b"\r\n\r\n\n\n"), None, "line ends alone are no head");
    }
}
