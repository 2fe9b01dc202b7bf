//! The middlewares, from the outermost to the innermost: [`final_response`](super::connection), request id, access log,
//! problem+json, CORS.

mod access_log;
mod cors;
mod problem_json;
mod request_id;

pub(super) use access_log::access_log;
pub(super) use cors::{cors, without_cors_at_verify};
pub(super) use problem_json::problem_json;
pub(super) use request_id::{RequestId, request_id};
