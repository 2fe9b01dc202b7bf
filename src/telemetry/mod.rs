//! Logs, metrics and traces. One line for each request, one for each failure, none with a secret in it.

mod logs;
mod metrics;
mod traces;

pub use logs::dropped_log_lines;
pub use metrics::{HashWaits, Levels, Metrics};
pub use traces::{TraceContext, Traces, join_trace, trace_answer};

use crate::config::{LogFormat, Telemetry};
use logs::LogFlush;
use std::{io::IsTerminal, panic};
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Sends the last traces and writes the last log lines when it is dropped, each for a second at most.
pub struct Running {
    // In this order: a failure to send traces has a line in the log.
    _traces: Option<Traces>,
    _log: LogFlush,
}

/// Starts to log to standard output, and to send traces when there is a collector. A second start in one process, as tests
/// do it, changes nothing. Not within an async runtime: the sender of traces has a blocking client.
pub fn start(settings: &Telemetry) -> Running {
    // The settings have checked that this can be read.
    // The framework speaks of its workers, and loudly of whatever is no request, which has a line of ours; sqlx repeats
    // the database's text. These come first, so that the setting can bring them back.
    let directives = format!("actix_server=warn,actix_http::h1=off,sqlx=off,{}", settings.log);
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, log_flush) = logs::non_blocking_stdout();
    let layer = fmt::layer().with_writer(writer);
    let log = match settings.format {
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        LogFormat::Pretty => layer.compact().with_ansi(std::io::stdout().is_terminal()).boxed(),
    };
    let traces = settings.otlp_endpoint.as_deref().map(Traces::start).transpose();
    let (traces, fault) = match traces {
        Ok(traces) => (traces, None),
        Err(fault) => (None, Some(fault)),
    };
    let registry = tracing_subscriber::registry().with(log.with_filter(filter));
    let started = registry.with(traces.as_ref().map(Traces::layer)).try_init();
    if let Some(fault) = fault {
        tracing::error!("no traces are sent: {fault}");
    }
    if started.is_ok() {
        panic::set_hook(Box::new(|panic| {
            // Where, and not what: the message may hold what a request brought.
            let location = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(location, "a panic: a fault of ours");
        }));
    }
    Running { _traces: traces, _log: log_flush }
}
