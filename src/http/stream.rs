//! A connection: what the framework leaves open about it.
//!
//! 1. What cannot be read as a request never reaches a route: actix-http itself answers 400, 408 (the first head took
//!    too long) or 431, without a body and as the last thing on the connection. The contract promises problem+json for
//!    every error, and there is no hook before the socket; so these few answers are recognised here and written anew.
//! 2. actix-http times the first head of a connection and no later one, and waits for the end of an unread body for
//!    ever. Here a connection on which nothing has been answered for long, or for many bytes, is read no further.
//! 5. actix-http reads on while its client takes no answer, parses all that it has read into requests that wait, and wakes
//!    itself without end once it has read 128 KiB; one connection takes a core and many MiB. Here it gets at most
//!    [`PIECE`] at a time, and nothing while an answer waits to be written, or ahead of the answer that is being made.
//! 6. actix-http waits for ever for a client that does not read. Here an answer has its time to be written in.
//! 3. actix-http goes on with a request whose client has gone. That it has is told to whom it concerns.
//! 4. actix-http goes on with what it has read behind an answer that was the last one. Nothing of that is answered.

use super::{State, error::Problem, last_answer::LastAnswer, patience::Patience};
use actix_web::{http::StatusCode, web::Data};
use std::{
    io,
    net::IpAddr,
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

/// What may come in without an answer, in bytes: more than any client sends that reads its answer.
const MAX_UNANSWERED: usize = 32 * 1024 * 1024;

/// How many bytes actix-http gets at once: some hundred of the smallest requests.
const PIECE: usize = 2 * 1024;

/// How slowly a client may read an answer that does not fit into the socket's buffers, in bytes per second, once
/// [`Stream::patience`] has passed.
const LEAST_RATE: u32 = 8 * 1024;

pub struct Stream {
    tcp: TcpStream,
    state: Data<State>,
    /// What is left of an answer written anew.
    rest: Vec<u8>,
    /// The longest time between two answers.
    patience: Duration,
    /// When it will have passed since the first byte after the last one.
    deadline: Pin<Box<Sleep>>,
    /// Bytes since the last answer.
    unanswered: usize,
    /// Bytes since the last answer that were read while a request was served.
    ahead: usize,
    /// What is left of a piece.
    piece: usize,
    /// Whether reading waits for something to be written.
    is_paused: bool,
    /// Whether the socket takes no more bytes.
    is_blocked: bool,
    /// Until when what is being written must be written; from when the socket first took no more bytes of it.
    write_deadline: Option<Pin<Box<Sleep>>>,
    /// Whether the client has closed its side.
    is_closed: watch::Sender<bool>,
    last_answer: LastAnswer,
}

impl Stream {
    pub fn new(tcp: TcpStream, state: Data<State>) -> Self {
        // A head and a body, each in its time, and then the answer, which has time limits of its own.
        let patience = 2 * state.request_timeout + Duration::from_secs(5);
        let deadline = Box::pin(sleep(patience));
        Self {
            tcp,
            state,
            rest: Vec::new(),
            patience,
            deadline,
            unanswered: 0,
            ahead: 0,
            piece: PIECE,
            is_paused: false,
            is_blocked: false,
            write_deadline: None,
            is_closed: watch::Sender::new(false),
            last_answer: LastAnswer::default(),
        }
    }

    /// For the requests of this connection.
    pub fn patience(&self) -> Patience {
        Patience::of_connection(self.is_closed.subscribe())
    }

    /// For the requests of this connection.
    pub fn last_answer(&self) -> LastAnswer {
        self.last_answer.clone()
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            let written = self.poll_tcp_write(context, &rest);
            self.rest = rest;
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what the socket takes.
    fn poll_tcp_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(context, bytes);
        match &written {
            Poll::Ready(Ok(count @ 1..)) => self.has_written(*count, context),
            Poll::Ready(_) => {}
            Poll::Pending => {
                self.is_blocked = true;
                let patience = self.patience;
                let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(sleep(patience)));
                if deadline.as_mut().poll(context).is_ready() {
                    // What lies in the socket's buffers is for no reader: it goes with the connection.
                    let _ = self.tcp.set_zero_linger();
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        written
    }

    /// Notes that the client has taken so many bytes of an answer.
    fn has_written(&mut self, count: usize, context: &mut Context<'_>) {
        self.unanswered = 0;
        self.ahead = 0;
        if self.last_answer.is_given() {
            self.restart_deadline();
        }
        if let Some(deadline) = &mut self.write_deadline {
            let later = Duration::from_secs(1) * u32::try_from(count).unwrap_or(u32::MAX) / LEAST_RATE;
            let later = deadline.deadline() + later;
            deadline.as_mut().reset(later);
        }
        if std::mem::take(&mut self.is_blocked) | std::mem::take(&mut self.is_paused) {
            // Reading goes on. The dispatcher reads before it writes, so it has to be asked once more.
            context.waker().wake_by_ref();
        }
    }

    /// Whether this connection has had its time, or its bytes. One that waits for its next request has all the time that
    /// `server.keep_alive` gives it; one that has had its last answer waits for none.
    fn is_spent(&mut self, context: &mut Context<'_>) -> bool {
        let is_timed = self.unanswered > 0 || self.last_answer.is_given();
        self.unanswered > MAX_UNANSWERED || is_timed && self.deadline.as_mut().poll(context).is_ready()
    }

    fn restart_deadline(&mut self) {
        let deadline = Instant::now() + self.patience;
        self.deadline.as_mut().reset(deadline);
    }

    /// Reads at most a piece.
    fn poll_piece(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if self.piece == 0 {
            // Others have their turn, and actix-http parses what it has.
            self.piece = PIECE;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = into.remaining().min(self.piece);
        let mut piece = ReadBuf::new(into.initialize_unfilled_to(most));
        let outcome = Pin::new(&mut self.tcp).poll_read(context, &mut piece);
        let read = piece.filled().len();
        if outcome.is_pending() {
            self.piece = PIECE;
        }
        self.piece -= read;
        into.advance(read);
        outcome.map_ok(|()| read)
    }
}

/// Where a bare refusal begins, and its status. Answers to requests before it may stand in the same bytes.
/// Our own errors have a body, so nothing of ours looks like one.
fn bare_refusal(bytes: &[u8]) -> Option<(usize, StatusCode)> {
    const START: &[u8] = b"HTTP/1.1 4";
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let start = bytes.windows(START.len()).rposition(|window| window == START)?;
    let head = std::str::from_utf8(&bytes[start..]).ok()?;
    let status = match head.get(9..12)? {
        "400" => StatusCode::BAD_REQUEST,
        "408" => StatusCode::REQUEST_TIMEOUT,
        "431" => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => return None,
    };
    let is_bare = head.find("\r\n\r\n") == Some(head.len() - 4) && head.contains("\r\ncontent-length: 0\r\n");
    is_bare.then_some((start, status))
}

/// The same refusal as a problem. Whatever made it, the connection closes after it.
fn refusal(status: StatusCode, state: &State, peer: Option<IpAddr>) -> Vec<u8> {
    let request_id = super::observe::new_request_id();
    let problem = Problem::of_status(status);
    let body = problem.json(&state.base_path, &request_id);
    let status = problem.code().status;
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    // Of a proxy, if there is one: what is no request has no header to say more.
    let peer = peer.map(tracing::field::display);
    tracing::info!(http.status = status, request.id = request_id, client.ip = peer, "refused what is no request");
    state.metrics.refused(status);
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         connection: close\r\nx-content-type-options: nosniff\r\nx-request-id: {request_id}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_spent(context) {
            // As if the client had closed its side: what is being answered is answered, and nothing more is read.
            return Poll::Ready(Ok(()));
        }
        let is_serving = self.last_answer.is_serving();
        self.is_paused = is_serving && self.ahead >= PIECE;
        if self.is_blocked || self.is_paused {
            // `has_written` wakes the dispatcher.
            return Poll::Pending;
        }
        let wants_some = into.remaining() > 0;
        let outcome = ready!(self.poll_piece(context, into));
        // Their side ended, or with a reset both did: actix-http takes that for the former and goes on.
        if outcome.is_err() || matches!(outcome, Ok(0)) && wants_some {
            self.is_closed.send_replace(true);
        }
        let read = outcome?;
        if self.unanswered == 0 {
            self.restart_deadline();
        }
        self.unanswered += read;
        if is_serving {
            self.ahead += read;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(context))?;
        if self.last_answer.is_sent() {
            // Said to be written: it is for nobody.
            return Poll::Ready(Ok(bytes.len()));
        }
        let Some((start, status)) = bare_refusal(bytes) else {
            return self.poll_tcp_write(context, bytes);
        };
        self.rest = bytes[..start].to_vec();
        // What came behind the last answer is not even refused.
        if !self.last_answer.is_given() {
            let peer = self.tcp.peer_addr().ok().map(|peer| peer.ip().to_canonical());
            let refusal = refusal(status, &self.state, peer);
            self.rest.extend(refusal);
        }
        // Taken as a whole; what the socket does not take now goes with the flush.
        match self.poll_rest(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(context))?;
        ready!(Pin::new(&mut self.tcp).poll_flush(context))?;
        self.write_deadline = None;
        self.last_answer.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(context))?;
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_refusals_are_written_anew() {
        let bare = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        assert_eq!(bare_refusal(bare.as_bytes()), Some((0, StatusCode::REQUEST_TIMEOUT)));
        let before = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let both = format!("{before}{bare}");
        assert_eq!(bare_refusal(both.as_bytes()), Some((before.len(), StatusCode::REQUEST_TIMEOUT)));
        for other in [
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nmore",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nmore\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 4\r\n\r\n",
            "",
        ] {
            assert_eq!(bare_refusal(other.as_bytes()), None, "{other}");
        }
    }
}
