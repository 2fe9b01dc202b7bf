//! `signet serve`: runs the service until a signal stops it.

use super::{Failure, runtime, settings};
use crate::{
    app::{self, App, KeyReloader},
    clock::Clock,
    config::{Profile, Settings},
    os::scheduler,
    telemetry,
};
use std::{
    io::{self, Write},
    process, thread,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    task::spawn_blocking,
};

pub(super) fn run(settings: &Settings) -> Result<(), Failure> {
    // Before any other thread starts, so that all inherit it: threads that answer requests preempt hash threads.
    let _ = scheduler::set_time_slice(scheduler::SHORTEST);
    let _telemetry = telemetry::start(&settings.telemetry);
    let runtime = runtime()?;
    let served = runtime.block_on(serve(settings));
    // Does not wait for threads that a DNS look-up or a file blocks: their results are no longer needed.
    runtime.shutdown_background();
    served
}

async fn serve(settings: &Settings) -> Result<(), Failure> {
    for warning in app::warnings(settings) {
        tracing::warn!("{warning}");
    }
    let mut stop = stop_signal()?;
    let hang_up = signal(SignalKind::hangup())?;
    let app = tokio::select! {
        app = App::build(settings, Clock::System) => app?,
        // No request has been accepted yet.
        _ = &mut stop => return Ok(()),
    };
    tracing::info!(address = %app.address(), version = env!("CARGO_PKG_VERSION"), "listening");
    if settings.profile == Profile::Development {
        welcome(settings, &app);
    }
    tokio::spawn(reload_keys(hang_up, app.key_reloader()));
    app.run_until(async { drop(stop.await) }).await?;
    tracing::info!("stopped");
    Ok(())
}

fn welcome(settings: &Settings, app: &App) {
    let url = format!("http://{}{}", app.address(), &*settings.server.base_path);
    let docs = if settings.server.docs { format!("  Try the API      {url}/docs/swagger/\n") } else { String::new() };
    let text = format!(
        "\nSignet is listening on {url}\n\n{docs}\
         \x20 Create a user    curl {url}/auth/create -H 'content-type: application/json' \\\n\
         \x20                    -d '{{\"email\": \"ann@example.com\", \"password\": \"correct horse\"}}'\n\
         \x20 Stop             Ctrl-C\n\n"
    );
    // On a separate thread: a stalled reader of standard output must not delay the service.
    thread::spawn(move || io::stdout().write_all(text.as_bytes()));
}

/// Completes at the first SIGTERM (from a container runtime) or SIGINT (Ctrl-C). The second ends the process at once.
fn stop_signal() -> io::Result<oneshot::Receiver<()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        let signal = next().await;
        tracing::info!(signal, "stopping: finishing the requests in flight");
        let _ = stop.send(());
        let signal = next().await;
        tracing::warn!(signal, "exiting at once");
        process::exit(130);
    });
    Ok(stopped)
}

/// At each SIGHUP, reads the settings again and reloads the keys that they name. After a fault the service keeps its
/// keys.
async fn reload_keys(mut hang_up: Signal, reloader: KeyReloader) {
    while hang_up.recv().await.is_some() {
        let reloader = reloader.clone();
        // Reading files may block, and this thread also follows the feed of revocations.
        let reload = spawn_blocking(move || Ok::<_, Failure>(reloader.reload(&settings()?)?));
        match reload.await.unwrap_or_else(|panic| Err(panic.into())) {
            Ok(kid) => tracing::info!(kid, "reloaded the keys; this one is active"),
            Err(reason) => tracing::error!("the keys stay as they are: {}", reason.to_string().trim_end()),
        }
    }
}
