//! Logs and metrics. One line for each request, one for each failure, none with a secret in it.

mod metrics;

pub use metrics::Metrics;

use crate::config::{LogFormat, Telemetry};
use std::{io::IsTerminal, panic};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Begins to log to standard output. What begins a second time in one process, as tests do, changes nothing.
pub fn start(settings: &Telemetry) {
    // The settings have checked that this can be read.
    // The framework speaks of its workers, and loudly of whatever is no request, which has a line of ours; sqlx repeats
    // the database's text. These come first, so that the setting can bring them back.
    let directives = format!("actix_server=warn,actix_http::h1=off,sqlx=off,{}", settings.log);
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let started = match settings.format {
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false))
            .try_init(),
        LogFormat::Pretty => {
            registry.with(fmt::layer().compact().with_ansi(std::io::stdout().is_terminal())).try_init()
        }
    };
    if started.is_ok() {
        panic::set_hook(Box::new(|panic| {
            // Where, and not what: the message may hold what a request brought.
            let location = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(location, "a panic: a fault of ours");
        }));
    }
}
