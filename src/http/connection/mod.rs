//! The gaps of actix-http 3.20 that this folder closes, and why each matters to a user.
//!
//! | gap of actix-http | what a user would see | closed in |
//! |---|---|---|
//! | It reads on while the client takes no response, parses all of it into requests that wait, and wakes itself in a loop once it has read 128 KiB. | One client without an account takes a core, and 26 MiB for each connection. | [`guarded_stream`] |
//! | It waits without limit for a client that does not take its response. | Such connections stay for ever. | [`guarded_stream`] |
//! | It times the first head of a connection and no later one, and waits without limit for the end of a body that no handler reads. | The same. | [`guarded_stream`] |
//! | It goes on with a request whose client has disconnected. | Passwords are hashed for clients that are gone; in a flood most are. | [`client_connection`] |
//! | It encodes a response for the request that it parsed last, not for the one that is answered. | A `HEAD` behind another request takes the body from the response to that one. | [`guarded_stream`], which hands on one request at a time |
//! | After a response with `connection: close` it goes on with what it has read behind that request. | A proxy in front can be made to see the response to a request that it never sent (request smuggling). | [`final_response`] |
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
