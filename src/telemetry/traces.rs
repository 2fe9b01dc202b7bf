//! Traces for OpenTelemetry, over OTLP/HTTP: a span for each request, and below it each hash and each unit of work on the
//! database. They are sent in batches by a thread of their own; a collector that is away costs a request nothing.

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
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tracing::{Span, Subscriber, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

/// How long the end of the process waits for a collector that does not answer.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends spans until it is dropped, and then what is left.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Spans go to `endpoint`, the base URL of a collector.
    ///
    /// # Errors
    /// When no client for it can be made.
    pub fn start(endpoint: &str) -> Result<Self, ExporterBuildError> {
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder().with_http().with_endpoint(url).build()?;
        let resource = Resource::builder().with_service_name("signet").build();
        let exporter = Announced { exporter, is_failing: AtomicBool::new(false) };
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// The spans of Signet alone: the exporter makes requests, too.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> {
        // Lines are for the log: with their text they could carry more than the names and numbers of a span.
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

/// Says once when the collector takes no spans, and once when it takes them again: the library would say nothing.
#[derive(Debug)]
struct Announced {
    exporter: SpanExporter,
    is_failing: AtomicBool,
}

impl Export for Announced {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        match (&result, self.is_failing.swap(result.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!("the collector takes no traces, and they are lost: {error}"),
            (Ok(()), true) => tracing::info!("the collector takes traces again"),
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

/// The two headers of W3C Trace Context, as they came.
#[derive(Debug, Clone, Copy)]
pub struct TraceContext<'a> {
    pub traceparent: &'a str,
    pub tracestate: Option<&'a str>,
}

impl Extractor for TraceContext<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(self.traceparent),
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// Makes `span` a part of the trace that a request names.
pub fn join_trace(span: &Span, context: TraceContext<'_>) {
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &context);
    // Without a collector there is nothing to join.
    let _ = span.set_parent(parent);
}

/// Says in the span of a request, as OpenTelemetry's conventions have it, what it was and what was answered.
pub fn trace_answer(span: &Span, method: &str, route: &str, status: u16) {
    let context = span.context();
    let traced = context.span();
    if !traced.span_context().is_valid() {
        // There is no collector.
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
