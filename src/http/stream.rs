//! A connection that gives a body to the framework's bare refusals.
//!
//! What cannot be read as a request never reaches a route: actix-http itself answers 400, 408 (the head took too
//! long) or 431, without a body and as the last thing on the connection. The contract promises problem+json for
//! every error, and there is no hook before the socket; so these few answers are recognised here and written anew.

use super::error::Problem;
use actix_web::http::StatusCode;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

pub struct Stream {
    tcp: TcpStream,
    base_path: String,
    /// What is left of an answer written anew.
    rest: Vec<u8>,
}

impl Stream {
    pub fn new(tcp: TcpStream, base_path: String) -> Self {
        Self { tcp, base_path, rest: Vec::new() }
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let written = ready!(Pin::new(&mut self.tcp).poll_write(context, &self.rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

/// The status of a bare refusal; our own errors have a body, so nothing of ours looks like one.
fn bare_refusal(bytes: &[u8]) -> Option<StatusCode> {
    let rest = bytes.strip_prefix(b"HTTP/1.1 4")?;
    let head = std::str::from_utf8(bytes).ok()?;
    let (status, _) = rest.split_at_checked(2)?;
    let status = match status {
        b"00" => StatusCode::BAD_REQUEST,
        b"08" => StatusCode::REQUEST_TIMEOUT,
        b"31" => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => return None,
    };
    (head.ends_with("\r\n\r\n") && head.contains("\r\ncontent-length: 0\r\n")).then_some(status)
}

/// The same refusal as a problem. Whatever made it, the connection closes after it.
fn refusal(status: StatusCode, base_path: &str) -> Vec<u8> {
    let request_id = super::observe::new_request_id();
    let problem = Problem::of_status(status);
    let body = problem.json(base_path, &request_id);
    let status = problem.code().status;
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    tracing::info!(http.status = status, request.id = request_id, "refused what is no request");
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         connection: close\r\nx-content-type-options: nosniff\r\nx-request-id: {request_id}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(context))?;
        let Some(status) = bare_refusal(bytes) else { return Pin::new(&mut self.tcp).poll_write(context, bytes) };
        self.rest = refusal(status, &self.base_path);
        // Taken as a whole; what the socket does not take now goes with the flush.
        match self.poll_rest(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(context))?;
        Pin::new(&mut self.tcp).poll_flush(context)
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
        let bare = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        assert_eq!(bare_refusal(bare), Some(StatusCode::REQUEST_TIMEOUT));
        for other in [
            &b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nmore",
            b"HTTP/1.1 4",
            b"",
        ] {
            assert_eq!(bare_refusal(other), None);
        }
    }
}
