//! Numbers for those who run it.

use super::health::no_store;
use crate::{
    http::State,
    telemetry::{Levels, Metrics, dropped_log_lines},
};
use actix_web::{HttpResponse, web::Data};

/// What was counted, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "Operations", operation_id = "metrics", responses((
    status = 200, description = "Metrics in the text format of OpenMetrics 1.0.", body = String,
    content_type = "application/openmetrics-text", example = "signet_purged_rows_total{table=\"sessions\"} 0\n# EOF\n"
)))]
pub async fn metrics(state: Data<State>) -> HttpResponse {
    let figures = state.auth.storage_figures();
    let text = state.metrics.render(Levels {
        revocations: figures.revocations,
        feed_age: figures.feed_age,
        hash_queue: state.auth.hash_queue(),
        connections_in_use: figures.connections_in_use,
        connections_idle: figures.connections_idle,
        log_lines_dropped: dropped_log_lines(),
    });
    HttpResponse::Ok().insert_header(no_store()).content_type(Metrics::CONTENT_TYPE).body(text)
}
