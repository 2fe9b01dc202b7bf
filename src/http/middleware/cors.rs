//! Which pages of other origins may read answers (the Fetch standard, "CORS protocol").

use crate::http::{State, problem::Problem};
use actix_cors::{Cors, CorsError};
use actix_web::{
    dev::ServiceResponse,
    http::{
        Method,
        header::{HeaderName, HeaderValue, VARY},
    },
    middleware::Condition,
};

/// How long a browser may remember what it was told, in seconds.
const MAX_AGE: usize = 600;

/// Lets scripts of `server.cors_allowed_origins` call every route. They bring their token in
/// a header: no cookie is ever needed, and none is allowed.
pub fn cors(state: &State) -> Condition<Cors> {
    let origins = &state.cors_allowed_origins;
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allowed_headers([&*state.authorization_header, "content-type", "if-match", "x-request-id"])
        .expose_headers(["etag", "link", "location", "retry-after", "www-authenticate", "x-request-id"])
        .max_age(MAX_AGE)
        .block_on_origin_mismatch(false);
    let cors = if origins.iter().any(|origin| &**origin == "*") {
        cors.allow_any_origin().send_wildcard()
    } else {
        origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
    };
    Condition::new(!origins.is_empty(), cors)
}

/// What the protocol adds to an answer; an error that is rewritten keeps it, or no script could read it.
pub(super) fn is_of_cors(name: &HeaderName) -> bool {
    name == VARY || name.as_str().starts_with("access-control-")
}

/// What a refused preflight hangs on, for caches: actix-cors says so only when it lets one in.
pub(super) const VARIES: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// Why a preflight was refused, if that is what the answer says.
pub(super) fn refused_preflight<B>(response: &ServiceResponse<B>) -> Option<Problem> {
    let error = response.response().error()?.as_error::<CorsError>()?;
    Some(Problem::Malformed(format!("CORS (server.cors_allowed_origins): {error}.")))
}
