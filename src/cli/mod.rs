//! The command line: which words there are, and which code they run.

mod healthcheck;
mod keys;
mod user;

use crate::{
    app::{self, App, KeyReloader, KeysError, StartError},
    clock::Clock,
    config::{Settings, Sources},
    http,
    keys::files::KeyFileError,
    os::scheduler,
    storage::{self, OpenError, Storage},
    telemetry,
};
use clap::{Parser, Subcommand};
use std::{
    fmt::Display,
    io::{self, Write},
    process::{self, ExitCode},
    sync::mpsc,
    thread,
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    task::spawn_blocking,
};

/// Something in the configuration is wrong (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;

/// Issues tokens: sign up, sign in, refresh, and the users.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Settings come from config/*.toml and SIGNET__SECTION__KEY; see `signet config print`."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (what happens without a command, too)
    Serve,
    /// Bring the database's tables up to date
    Migrate,
    /// Print the OpenAPI document
    Openapi,
    /// Check or show the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Manage the keys that sign access tokens
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Look after users
    #[command(subcommand)]
    User(user::UserCommand),
    /// Ask the service of this machine whether it is ready
    Healthcheck,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Name every fault at once
    Check,
    /// Show every setting and where it came from, secrets masked
    Print,
}

/// Nothing can be written to standard output (`EX_IOERR` of sysexits.h).
const EXIT_IO: i32 = 74;

/// Why a command failed, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command of this process.
pub fn main() -> ExitCode {
    let command = Cli::parse().command.unwrap_or(Command::Serve);
    if let Command::Openapi = command {
        say(http::default_document().trim_end());
        return ExitCode::SUCCESS;
    }
    let settings = match app::load_settings(&Sources::of_process()) {
        Ok(settings) => settings,
        Err(faults) => {
            complain(format!("The settings are not right; nothing was started.\n{faults}"));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match run(command, &settings) {
        Ok(code) => code,
        Err(failure) => {
            complain(format!("signet: {failure}\n"));
            // Keys and database are a part of the configuration, wherever they are kept.
            let is_about_settings = failure.is::<KeysError>()
                || failure.is::<KeyFileError>()
                || failure.is::<OpenError>()
                || matches!(failure.downcast_ref(), Some(StartError::Key(_) | StartError::Open(_)));
            if is_about_settings { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

/// Writes to standard error, for a second at most: a reader that has stalled must not keep the process from ending.
fn complain(text: String) {
    let (written, wait) = mpsc::channel();
    thread::spawn(move || {
        eprint!("{text}");
        let _ = written.send(());
    });
    let _ = wait.recv_timeout(Duration::from_secs(1));
}

/// Writes a line of what was asked for. A reader that stops reading (`| head`) is no failure; a full disk is.
fn say(line: impl Display) {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("signet: what was asked for cannot be written: {error}");
            process::exit(EXIT_IO);
        }
        _ => {}
    }
}

fn run(command: Command, settings: &Settings) -> Result<ExitCode, Failure> {
    // One thread here: the HTTP workers and the hash threads have their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Serve => {
            // Before any other thread: what answers requests runs before what hashes passwords.
            let _ = scheduler::set_time_slice(scheduler::SHORTEST);
            let _telemetry = telemetry::start(&settings.telemetry);
            let served = runtime.block_on(serve(settings));
            // A name look-up or a file may hold a thread for as long as it likes; nothing waits for its answer any more.
            runtime.shutdown_background();
            return served.map(|()| ExitCode::SUCCESS);
        }
        Command::Migrate => runtime.block_on(migrate(settings))?,
        Command::Config(ConfigCommand::Print) => say(settings.print().trim_end()),
        Command::Config(ConfigCommand::Check) => {
            storage::check(&settings.database)?;
            app::check_keys(settings, Clock::System.now())?;
            say("The settings are right.");
            for warning in app::warnings(settings) {
                say(format_args!("warning: {warning}"));
            }
        }
        Command::Keys(command) => keys::run(command, settings)?,
        Command::User(command) => return runtime.block_on(user::run(command, settings)),
        Command::Healthcheck => return healthcheck::run(&settings.server),
        // Handled before the settings are loaded: it needs none.
        Command::Openapi => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(settings: &Settings) -> Result<(), Failure> {
    for warning in app::warnings(settings) {
        tracing::warn!("{warning}");
    }
    let mut stop = stop_signal()?;
    let hang_up = signal(SignalKind::hangup())?;
    let app = tokio::select! {
        app = App::build(settings, Clock::System) => app?,
        // Nothing serves yet: there is nothing to finish.
        _ = &mut stop => return Ok(()),
    };
    tracing::info!(address = %app.address(), version = env!("CARGO_PKG_VERSION"), "listening");
    if settings.profile == crate::config::Profile::Development {
        welcome(settings, &app);
    }
    tokio::spawn(reload_keys(hang_up, app.key_reloader()));
    app.run_until(async { drop(stop.await) }).await?;
    tracing::info!("stopped");
    Ok(())
}

fn welcome(settings: &Settings, app: &App) {
    let at = format!("http://{}{}", app.address(), &*settings.server.base_path);
    let look_around =
        if settings.server.docs { format!("  Look around      {at}/docs/swagger/\n") } else { String::new() };
    let text = format!(
        "\nSignet is listening on {at}\n\n{look_around}\
         \x20 Create a user    curl {at}/auth/create -H 'content-type: application/json' \\\n\
         \x20                    -d '{{\"email\": \"ann@example.com\", \"password\": \"correct horse\"}}'\n\
         \x20 Stop             Ctrl-C\n\n"
    );
    // On a thread of its own: the service works whether or not standard output is read.
    thread::spawn(move || io::stdout().write_all(text.as_bytes()));
}

/// Comes with the first SIGTERM, as containers are stopped, or SIGINT, as people stop programs. The second ends the
/// process at once.
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
        tracing::warn!(signal, "leaving at once");
        process::exit(130);
    });
    Ok(stopped)
}

/// Reads settings and keys at each SIGHUP, without waiting for the next look at the folder. After a fault the service
/// keeps its keys.
async fn reload_keys(mut hang_up: Signal, reloader: KeyReloader) {
    while hang_up.recv().await.is_some() {
        let reloader = reloader.clone();
        // Files may be slow, and this thread follows the feed of revocations.
        let reload = move || match app::load_settings(&Sources::of_process()) {
            Ok(settings) => reloader.reload(&settings).map_err(|error| error.to_string()),
            Err(faults) => Err(faults.to_string()),
        };
        match spawn_blocking(reload).await.unwrap_or_else(|panic| Err(panic.to_string())) {
            Ok(kid) => tracing::info!(kid, "reloaded the keys; this one is active"),
            Err(reason) => tracing::error!("the keys stay as they are: {}", reason.trim_end()),
        }
    }
}

async fn migrate(settings: &Settings) -> Result<(), Failure> {
    let storage = Storage::open(settings, 1).await?;
    let conflicts = storage.migrate().await?;
    storage.close().await;
    say("The database is up to date.");
    for user in conflicts {
        say(format_args!("warning: user {user}: {}", storage::NAME_CONFLICT));
    }
    Ok(())
}
