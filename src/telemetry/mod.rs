//! Logs, metrics and traces. The log has one line for each request and one for each failure; no line contains a secret.

mod log_once;
mod logs;
mod metrics;
mod traces;

pub use log_once::LogOnce;
pub use logs::dropped_log_lines;
pub use metrics::{GaugeValues, HashWaits, Metrics};
pub use traces::{Traces, join_trace, trace_answer};

use crate::config::{LogFormat, Telemetry};
use logs::LogFlush;
use std::{io::IsTerminal, panic};
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Sends the last traces and writes the last log lines when it is dropped, each for at most a second.
pub struct Running {
    // Dropped in this order, so that a failure to send traces is still logged.
    _traces: Option<Traces>,
    _log: LogFlush,
}

/// Starts to log to standard output, and to send traces when a collector is configured. A second start in one process, as
/// in tests, changes nothing. Must not be called in an async runtime: traces are sent by a blocking client.
pub fn start(settings: &Telemetry) -> Running {
    // actix-server logs its workers, actix-http every malformed request (Signet logs these itself), and sqlx text of the
    // database. The setting comes last, so that it can enable them again.
    let directives = format!("actix_server=warn,actix_http::h1=off,sqlx=off,{}", settings.log);
    // `config` has checked that it parses.
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, log_flush) = logs::non_blocking_stdout();
    let layer = fmt::layer().with_writer(writer);
    let log = match settings.format {
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        LogFormat::Pretty => layer.compact().with_ansi(std::io::stdout().is_terminal()).boxed(),
    };
    let (traces, fault) = match settings.otlp_endpoint.as_deref().map(Traces::start).transpose() {
        Ok(traces) => (traces, None),
        Err(fault) => (None, Some(fault)),
    };
    let registry = tracing_subscriber::registry().with(log.with_filter(filter));
    let started = registry.with(traces.as_ref().map(Traces::layer)).try_init();
    if let Some(fault) = fault {
        tracing::error!("traces are not sent: {fault}");
    }
    if started.is_ok() {
        panic::set_hook(Box::new(|panic| {
            // Without the message, which may contain data of a request.
            let location = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(location, "panicked: this is a bug in Signet");
        }));
    }
    Running { _traces: traces, _log: log_flush }
}
