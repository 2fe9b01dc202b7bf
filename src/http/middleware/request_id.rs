//! The id of a request, and the headers of every response.

use crate::{http::State, random::random};
use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    web::Data,
};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id under which a request is logged.
#[derive(Clone)]
pub struct RequestId(pub String);

impl RequestId {
    /// The id that [`request_id`] gave this request.
    pub fn of(request: &HttpRequest) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(Self::new)
    }

    /// An id of 128 random bits.
    fn new() -> Self {
        Self(format!("{:032x}", u128::from_ne_bytes(random())))
    }

    /// The id that the client or a proxy sent, if it is short and cannot break a log line.
    fn given(headers: &HeaderMap) -> Option<Self> {
        let is_sane = |id: &&str| {
            (1..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:+/=@".contains(c))
        };
        headers.get(X_REQUEST_ID)?.to_str().ok().filter(is_sane).map(|id| Self(id.to_owned()))
    }
}

/// Whether a route, given without the base path, belongs to OAuth.
pub(super) fn is_oauth(route: &str) -> bool {
    route.starts_with("/oauth/")
}

/// Gives each request its id, and each response its common headers.
pub async fn request_id<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    let id = RequestId::given(request.headers()).unwrap_or_else(RequestId::new);
    request.extensions_mut().insert(id.clone());
    let mut response = next.call(request).await?;
    // By the route, because a path has more than one spelling (`/%61uth`).
    let holds_secrets = response.request().match_pattern().is_some_and(|route| {
        let base_path = response.request().app_data::<Data<State>>().map_or("", |state| &state.base_path);
        route.strip_prefix(base_path).is_some_and(|route| route.starts_with("/auth/") || is_oauth(route))
    });
    add_headers(response.headers_mut(), &id, holds_secrets);
    Ok(response)
}

pub(super) fn add_headers(headers: &mut HeaderMap, id: &RequestId, holds_secrets: bool) {
    if let Ok(id) = HeaderValue::from_str(&id.0) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if holds_secrets {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
