//! The gaps of actix-http 3.20 that this folder closes, and why each matters to a user.
//!
//! | gap of actix-http | what a user would see | closed in |
//! |---|---|---|
//! | It continues to read while the client reads no response, parses all of it into requests that wait, and wakes itself in a loop once it has read 128 KiB. | One client without an account occupies a core, and 26 MiB for each connection. | [`guarded_stream`] |
//! | It waits without limit for a client that does not read its response. | Such connections are never closed. | [`guarded_stream`] |
//! | It times the first head of a connection and no later one, and waits without limit for the end of a body that no handler reads. | The same. | [`guarded_stream`] |
//! | It continues a request whose client has disconnected. | Passwords are hashed for clients that have disconnected; in a flood most have. | [`client_connection`] |
//! | It encodes a response for the request that it parsed last, not for the one that is answered. | If a pipelined `HEAD` follows another request, the response to that request has no body. | [`guarded_stream`], which hands on one request at a time |
//! | After a response with `connection: close` it continues with what it has read after that request. | An attacker can make a proxy in front receive the response to a request that it never sent (request smuggling). | [`final_response`] |
//!
//! `docs/benchmarks/upstream-actix-http.md` reports these gaps to its maintainers. actix-http refuses input that is not an
//! HTTP request by itself: it sends a bare status line and closes the connection.

mod client_connection;
mod final_response;
mod guarded_stream;
mod listener;
mod serve;

pub(super) use client_connection::{ClientConnection, Disconnected};
pub(super) use final_response::body_is_read;
pub use listener::{close, listen};
pub use serve::{Options, serve};
