//! Cross-origin requests: which origins may read responses (the Fetch standard, "CORS protocol").

use crate::http::{State, problem::Problem, routes::VERIFY};
use actix_cors::{Cors, CorsError};
use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, HeaderName, HeaderValue, VARY},
    },
    middleware::{Condition, Next},
    web::Data,
};

/// How long a browser may keep the result of a preflight, in seconds.
const MAX_AGE: usize = 600;

/// Lets scripts of `server.cors_allowed_origins` call every route. Tokens travel in a header, so cookies are not
/// allowed.
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

/// Turns CORS off for `/auth/verify`. A proxy passes on the `Origin` and the method, `OPTIONS` included, of the request
/// that it authorizes; they are not those of a request to this route.
pub async fn without_cors_at_verify<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let base_path = request.app_data::<Data<State>>().map_or("", |state| &state.base_path);
    // The path as the router decodes it: a client can percent-encode it (`/auth/%76erify`).
    if request.match_info().as_str().strip_prefix(base_path) != Some(VERIFY) {
        return next.call(request).await;
    }
    for name in [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_METHOD] {
        request.headers_mut().remove(name);
    }
    let mut response = next.call(request).await?;
    response.headers_mut().retain(|name, _| !is_of_cors(name));
    Ok(response)
}

/// Whether a header belongs to the CORS protocol. A rewritten error keeps these headers; without them no script could
/// read it.
pub(super) fn is_of_cors(name: &HeaderName) -> bool {
    name == VARY || name.as_str().starts_with("access-control-")
}

/// The `Vary` of a refused preflight: actix-cors adds the header only to accepted ones.
pub(super) const VARIES: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// The problem of a response that refuses a preflight.
pub(super) fn refused_preflight<B>(response: &ServiceResponse<B>) -> Option<Problem> {
    let error = response.response().error()?.as_error::<CorsError>()?;
    Some(Problem::Malformed(format!("CORS (server.cors_allowed_origins): {error}.")))
}
