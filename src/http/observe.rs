//! What holds for every reply: an id, a log line, the common headers, and one form for every error.

use super::{
    State,
    client::{client_address, comes_from_trusted_proxy},
    connection::{arrived_after_close, close_after_final, request_begins},
    cors::{VARIES, is_of_cors, refused_preflight},
    error::Problem,
};
use crate::telemetry::{TraceContext, join_trace, trace_answer};
use actix_http::ConnectionType;
use actix_web::{
    Error, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    web::Data,
};
use futures_util::FutureExt;
use std::{panic::AssertUnwindSafe, sync::atomic::Ordering, time::Instant};
use tracing::Instrument;

/// The longest query that is read, in bytes: `q` and `after` at their longest, percent-encoded, fit into it.
const MAX_QUERY: usize = 8 * 1024;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NO_SNIFF: (HeaderName, HeaderValue) = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// Goes around every request.
///
/// # Errors
/// A panic comes out as an error, because actix-web keeps the request that a response would need.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if arrived_after_close(request.request()).await {
        return Ok(request.into_response(HttpResponse::BadRequest().force_close().finish()).map_into_boxed_body());
    }
    request_begins(request.request());
    #[expect(clippy::disallowed_methods, reason = "a duration for the log; no decision hangs on it")]
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    // We speak nothing else, and after an `Upgrade` actix-http no longer knows where the next request begins.
    let wants_no_other = request.head().connection_type() != ConnectionType::KeepAlive
        || request.headers().contains_key(header::UPGRADE);
    let state = request.app_data::<Data<State>>().cloned();
    let base_path = state.as_ref().map_or("", |state| state.base_path.as_str());
    let client_ip =
        state.as_ref().and_then(|state| client_address(state, request.request())).map(tracing::field::display);
    let span = tracing::info_span!("request", request.id = %id, otel.kind = "server");
    let header = |name: &str| request.headers().get(name)?.to_str().ok();
    // From anybody else it would join whatever trace they name, and decide whether that is kept.
    let is_of_proxy = state.as_ref().is_some_and(|state| comes_from_trusted_proxy(state, request.request()));
    if is_of_proxy && let Some(traceparent) = header("traceparent") {
        join_trace(&span, TraceContext { traceparent, tracestate: header("tracestate") });
    }

    let note = |route: &str, status: u16| {
        let took = started.elapsed();
        tracing::info!(
            request.id = %id,
            http.method = %method,
            http.route = route,
            http.status = status,
            duration_ms = took.as_secs_f64() * 1000.0,
            client.ip = client_ip,
            "answered"
        );
        trace_answer(&span, method.as_str(), route, status);
        if let Some(state) = &state {
            state.metrics.answered(method.as_str(), route, status, took);
        }
    };

    let outcome = if request.query_string().len() > MAX_QUERY {
        Ok(Ok(request
            .error_response(Problem::Malformed("A query may have at most 8 KiB.".to_owned()))
            .map_into_right_body()))
    } else {
        let answer = AssertUnwindSafe(next.call(request)).catch_unwind().instrument(span.clone()).await;
        answer.map(|answer| answer.map(ServiceResponse::map_into_left_body))
    };
    let _entered = span.enter();
    let mut response = match outcome {
        Ok(Ok(response)) => response.map_into_boxed_body(),
        Ok(Err(error)) => return Err(error),
        Err(_) => {
            // The panic hook has logged where.
            note("-", 500);
            let mut response = Problem::Internal.response(base_path, &id);
            add_headers(response.headers_mut(), &id, true);
            return Err(actix_web::error::InternalError::from_response("panic", response).into());
        }
    };

    // What is not JSON of ours is the framework's; `readyz` answers 503 in words of its own.
    let is_ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json");
    if (response.status().is_client_error() || response.status().is_server_error()) && !is_ours {
        response = rewrite(response, base_path, &id);
    }
    let is_stopping = state.as_ref().is_some_and(|state| state.is_stopping.load(Ordering::Relaxed));
    close_after_final(&mut response, wants_no_other || is_stopping);
    let route = response.request().match_pattern();
    note(route.as_deref().unwrap_or("-"), response.status().as_u16());
    // By the route and not by the path, which may spell it in more than one way (`/%61uth`).
    let holds_secrets =
        route.is_some_and(|route| route.strip_prefix(base_path).is_some_and(|route| route.starts_with("/auth/")));
    Ok(response.map_body(|head, body| {
        add_headers(&mut head.headers, &id, holds_secrets);
        body
    }))
}

/// Writes an error as a problem with the request's id, whoever raised it.
fn rewrite(response: ServiceResponse<BoxBody>, base_path: &str, id: &str) -> ServiceResponse<BoxBody> {
    let raised = response.response().error().and_then(|error| error.as_error::<Problem>());
    let preflight = refused_preflight(&response);
    let is_preflight = preflight.is_some();
    let of_framework = preflight.unwrap_or_else(|| Problem::of_status(response.status()));
    let problem = raised.unwrap_or(&of_framework);
    if let Problem::Auth(crate::auth::AuthError::Internal(reason)) = problem {
        tracing::error!(reason, "a fault of ours");
    }
    let mut answer = problem.response(base_path, id);
    for (name, value) in response.headers().iter().filter(|(name, _)| is_of_cors(name)) {
        answer.headers_mut().append(name.clone(), value.clone());
    }
    if is_preflight {
        answer.headers_mut().append(header::VARY, VARIES);
    }
    response.into_response(answer)
}

fn add_headers(headers: &mut HeaderMap, id: &str, holds_secrets: bool) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers.insert(NO_SNIFF.0, NO_SNIFF.1);
    if holds_secrets {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// The id that came in, if it is sane: short, and nothing that could forge a log line. Otherwise a new one.
fn request_id(headers: &HeaderMap) -> String {
    let sane = |id: &&str| {
        (1..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:+/=@".contains(c))
    };
    let given = headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).filter(sane);
    given.map_or_else(new_request_id, str::to_owned)
}

/// An id of 128 random bits.
pub fn new_request_id() -> String {
    format!("{:032x}", u128::from_ne_bytes(crate::crypto::random()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{App, body::to_bytes, dev::Service, middleware::from_fn, test, web};

    #[actix_web::test]
    async fn a_panic_is_a_problem_like_any_other() {
        async fn panics() -> String {
            panic!("on purpose, with a secret")
        }
        let app = App::new().wrap(from_fn(observe)).route("/auth/panic", web::get().to(panics));
        let app = test::init_service(app).await;
        let request = test::TestRequest::get().uri("/auth/panic").insert_header(("x-request-id", "mine")).to_request();
        let response = app.call(request).await.unwrap_err().error_response();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers().get("x-request-id").unwrap(), "mine");
        let body = to_bytes(response.into_body()).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["code"], &body["request_id"]), (&"internal".into(), &"mine".into()));
        assert!(!body.to_string().contains("purpose"));
    }
}
