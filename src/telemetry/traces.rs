//! OpenTelemetry traces over OTLP/HTTP: a span for each request, with spans for each hash and each unit of work on the
//! database. A separate thread sends them in batches, so an unavailable collector delays no request.

use super::LogOnce;
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{Status, TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, SpanData, SpanExporter as Export},
};
use std::time::Duration;
use tracing::{Span, Subscriber, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

/// How long the process waits for the collector at exit.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends spans, and the remaining ones when it is dropped.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends spans to `endpoint`, the base URL of a collector.
    pub fn start(endpoint: &str) -> Result<Self, ExporterBuildError> {
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder().with_http().with_endpoint(url).build()?;
        let resource = Resource::builder().with_service_name("signet").build();
        let exporter = LoggingExporter { exporter, log: LogOnce::default() };
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// Records the spans of Signet only: the requests of the exporter have spans, too.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> {
        // Without events: log lines contain more than the names and numbers that spans contain.
        let ours = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("signet"));
        let layer = tracing_opentelemetry::layer().with_tracer(self.0.tracer("signet"));
        let layer = layer.with_location(false).with_threads(false).with_tracked_inactivity(false);
        layer.with_filter(ours.with_max_level_hint(LevelFilter::DEBUG))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        let _ = self.0.shutdown_with_timeout(SHUTDOWN_TIMEOUT);
    }
}

/// Logs when the collector fails and when it is back. The library logs neither.
#[derive(Debug)]
struct LoggingExporter {
    exporter: SpanExporter,
    log: LogOnce,
}

impl Export for LoggingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        match &result {
            Err(error) if self.log.fails() => {
                tracing::warn!("the collector does not accept traces; they are lost: {error}");
            }
            Ok(()) if self.log.recovers() => tracing::info!("the collector accepts traces again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Makes `span` part of the trace that the headers of W3C Trace Context name.
pub fn join_trace(span: &Span, headers: &dyn Extractor) {
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), headers);
    // Fails when no collector is configured.
    let _ = span.set_parent(parent);
}

/// Describes a request and its response in its span, by OpenTelemetry's semantic conventions.
pub fn trace_answer(span: &Span, method: &str, route: &str, status: u16) {
    let context = span.context();
    let traced = context.span();
    if !traced.span_context().is_valid() {
        // No collector is configured.
        return;
    }
    traced.update_name(format!("{method} {route}"));
    if status >= 500 {
        traced.set_status(Status::error(""));
    }
    traced.set_attribute(KeyValue::new("http.request.method", method.to_owned()));
    traced.set_attribute(KeyValue::new("http.route", route.to_owned()));
    traced.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
}
