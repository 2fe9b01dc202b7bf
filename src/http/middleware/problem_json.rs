//! One format for every error, whether a handler, the router, CORS or a panic caused it (RFC 9457).

use super::{
    cors::{VARIES, is_of_cors, refused_preflight},
    request_id::{RequestId, add_headers, is_oauth},
};
use crate::{
    auth::AuthError,
    http::{
        State, oauth_error,
        problem::{Code, Problem},
    },
};
use actix_web::{
    Error, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::header,
    middleware::Next,
    web::Data,
};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;

/// The longest query that is accepted, in bytes: enough for the longest `q` and `after`, percent-encoded.
const MAX_QUERY: usize = 8 * 1024;

/// Writes every error as `application/problem+json` with the request's id, but those of `/oauth/*` as RFC 6749 §5.2
/// says.
///
/// # Errors
/// The response of a request whose handler panicked: the panic has destroyed the request that a [`ServiceResponse`] needs.
pub async fn problem_json(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = RequestId::of(request.request());
    let state = request.app_data::<Data<State>>().cloned();
    let base_path = state.as_ref().map_or("", |state| state.base_path.as_str());
    let is_of_oauth = request.path().strip_prefix(base_path).is_some_and(is_oauth);
    if request.query_string().len() > MAX_QUERY {
        let problem = Problem::Malformed("A query may have at most 8 KiB.".to_owned());
        return Ok(request.into_response(write(&problem, is_of_oauth, base_path, &id)));
    }
    let Ok(outcome) = AssertUnwindSafe(next.call(request)).catch_unwind().await else {
        let mut response = write(&Problem::Plain(Code::INTERNAL), is_of_oauth, base_path, &id);
        add_headers(response.headers_mut(), &id, true);
        return Err(InternalError::from_response("panic", response).into());
    };
    let response = outcome?.map_into_boxed_body();
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    // `readyz` has a JSON body of its own for 503. Every other error body comes from the framework.
    let is_ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json");
    Ok(if is_error && !is_ours { rewrite(response, is_of_oauth, base_path, &id) } else { response })
}

fn write(problem: &Problem, is_of_oauth: bool, base_path: &str, id: &RequestId) -> HttpResponse {
    if is_of_oauth { oauth_error::response(problem) } else { problem.response(base_path, &id.0) }
}

fn rewrite(response: ServiceResponse, is_of_oauth: bool, base_path: &str, id: &RequestId) -> ServiceResponse {
    // A client can percent-encode the path (`/%6fauth`).
    let route = response.request().match_pattern();
    let is_of_oauth = is_of_oauth || route.is_some_and(|route| route.strip_prefix(base_path).is_some_and(is_oauth));
    let raised = response.response().error().and_then(|error| error.as_error::<Problem>());
    let preflight = refused_preflight(&response);
    let is_preflight = preflight.is_some();
    let of_framework = preflight.unwrap_or_else(|| Problem::of_status(response.status()));
    let problem = raised.unwrap_or(&of_framework);
    if let Problem::Auth(AuthError::Internal(reason)) = problem {
        tracing::error!(reason, "internal error");
    }
    if let Problem::Auth(AuthError::RateLimited { limit, .. }) = problem
        && let Some(state) = response.request().app_data::<Data<State>>()
    {
        state.metrics.rate_limited(limit);
    }
    let mut answer = write(problem, is_of_oauth, base_path, id);
    for (name, value) in response.headers().iter().filter(|(name, _)| is_of_cors(name)) {
        answer.headers_mut().append(name.clone(), value.clone());
    }
    if is_preflight {
        answer.headers_mut().append(header::VARY, VARIES);
    }
    response.into_response(answer)
}

#[cfg(test)]
mod tests {
    use super::{super::request_id, *};
    use actix_web::{App, body::to_bytes, dev::Service, middleware::from_fn, test, web};

    #[actix_web::test]
    async fn a_panic_gives_a_problem_with_status_500() {
        async fn panics() -> String {
            panic!("on purpose, with a secret")
        }
        let app = App::new()
            .wrap(from_fn(problem_json))
            .wrap(from_fn(request_id))
            .route("/auth/panic", web::get().to(panics));
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
