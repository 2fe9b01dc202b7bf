//! One log line, one metric and one span for each request.

use super::request_id::RequestId;
use crate::{
    http::{
        State,
        extract::{client_address, comes_from_trusted_proxy},
    },
    telemetry::{join_trace, trace_answer},
};
use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web::Data,
};
use std::{collections::HashMap, time::Instant};
use tracing::Instrument;

/// Logs, counts and traces each request with its route, status and duration.
pub async fn access_log<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    #[expect(clippy::disallowed_methods, reason = "a duration for the log; no decision depends on it")]
    let started = Instant::now();
    let RequestId(id) = RequestId::of(request.request());
    let method = request.method().clone();
    let state = request.app_data::<Data<State>>().cloned();
    let client_ip = state.as_ref().and_then(|state| client_address(state, request.request()));

    let span = tracing::info_span!("request", request.id = %id, otel.kind = "server");
    let header = |name: &str| Some((name.to_owned(), request.headers().get(name)?.to_str().ok()?.to_owned()));
    // An untrusted client could choose any trace, and decide whether it is sampled.
    let is_of_proxy = state.as_ref().is_some_and(|state| comes_from_trusted_proxy(state, request.request()));
    if is_of_proxy && request.headers().contains_key("traceparent") {
        let headers: HashMap<_, _> = ["traceparent", "tracestate"].into_iter().filter_map(header).collect();
        join_trace(&span, &headers);
    }

    let outcome = next.call(request).instrument(span.clone()).await;

    let (route, status) = match &outcome {
        Ok(response) => (response.request().match_pattern(), response.status()),
        // A handler panicked; the panic hook has logged where.
        Err(error) => (None, error.as_response_error().status_code()),
    };
    let (route, status, took) = (route.as_deref().unwrap_or("-"), status.as_u16(), started.elapsed());
    // Outside the span, so that the line has the request's id only once.
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                request.id = id,
                http.method = %method,
                http.route = route,
                http.status = status,
                duration_ms = (took.as_secs_f64() * 1e6).round() / 1e3,
                client.ip = client_ip.map(tracing::field::display),
                "answered"
            )
        };
    }
    let base_path = state.as_ref().map_or("", |state| &state.base_path);
    // Probes would fill the log.
    let is_probe = matches!(route.strip_prefix(base_path), Some("/livez" | "/readyz" | "/metrics"));
    if is_probe && status == 200 {
        log!(debug);
    } else {
        log!(info);
    }
    trace_answer(&span, method.as_str(), route, status);
    if let Some(state) = &state {
        state.metrics.answered(method.as_str(), route, status, took);
    }
    outcome
}
