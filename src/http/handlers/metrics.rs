//! `GET /metrics`

use super::health::no_store;
use crate::{http::State, telemetry::Metrics};
use actix_web::{HttpResponse, web::Data};

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "Operations", operation_id = "metrics", responses((
    status = 200, description = "Metrics in the text format of OpenMetrics 1.0.", body = String,
    content_type = "application/openmetrics-text", example = "signet_purged_rows_total{table=\"sessions\"} 0\n# EOF\n"
)))]
pub async fn metrics(state: Data<State>) -> HttpResponse {
    let text = state.metrics.render(state.auth.gauges());
    HttpResponse::Ok().insert_header(no_store()).content_type(Metrics::CONTENT_TYPE).body(text)
}
