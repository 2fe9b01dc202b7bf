//! What every request passes, from the outside in: the connection's end ([`final_response`](super::connection)), the
//! request's id, the access log, the form of errors, CORS.

mod access_log;
mod cors;
mod problem_json;
mod request_id;

pub(super) use access_log::access_log;
pub(super) use cors::cors;
pub(super) use problem_json::problem_json;
pub(super) use request_id::request_id;
