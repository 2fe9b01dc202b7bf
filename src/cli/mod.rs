//! The command line: the commands, their output and their exit codes.

mod audit;
mod client;
mod config;
mod healthcheck;
mod keys;
mod migrate;
mod serve;
mod user;

use crate::{
    app::{self, KeysError, StartError},
    config::{Faults, Settings, Sources},
    http,
    keys::files::KeyFileError,
    os::names,
    storage::OpenError,
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
use tokio::runtime::{self, Runtime};

/// The configuration is wrong (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;

/// Standard output cannot be written (`EX_IOERR` of sysexits.h).
const EXIT_IO: i32 = 74;

/// Issues tokens: sign-up, sign-in, refresh and user accounts.
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
    /// Run the service (the default)
    Serve,
    /// Create or update the tables of the database
    Migrate,
    /// Print the OpenAPI document
    Openapi,
    /// Check or print the settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Manage the keys that sign access tokens
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Manage clients: programs with a secret of their own
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Manage users
    #[command(subcommand)]
    User(user::UserCommand),
    /// Read the audit: who did what to whom, when and from where
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Check whether the service on this machine is ready
    Healthcheck(healthcheck::Healthcheck),
}

/// Why a command failed, for the operator.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command of this process.
pub fn main() -> ExitCode {
    names::use_no_plugins();
    match run(Cli::parse().command.unwrap_or(Command::Serve)) {
        Ok(code) => code,
        Err(failure) => {
            let is_invalid = failure.is::<Faults>();
            let intro = if is_invalid { "Invalid configuration; nothing was started.\n" } else { "signet: " };
            complain(format!("{intro}{}\n", failure.to_string().trim_end()));
            // Keys and database are part of the configuration, wherever they are stored.
            let is_configuration = is_invalid
                || failure.is::<KeysError>()
                || failure.is::<KeyFileError>()
                || failure.is::<OpenError>()
                || matches!(failure.downcast_ref(), Some(StartError::Key(_) | StartError::Open(_)));
            if is_configuration { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve => serve::run(&settings()?)?,
        Command::Migrate => runtime()?.block_on(migrate::run(&settings()?))?,
        Command::Openapi => say(http::default_document().trim_end()),
        Command::Config(command) => config::run(&command, &settings()?)?,
        Command::Keys(command) => keys::run(command, &settings()?)?,
        Command::Client(command) => runtime()?.block_on(client::run(command, &settings()?))?,
        Command::User(command) => runtime()?.block_on(user::run(command, &settings()?))?,
        Command::Audit(command) => runtime()?.block_on(audit::run(command, &settings()?))?,
        Command::Healthcheck(check) => return healthcheck::run(&check, &settings()?.server),
    }
    Ok(ExitCode::SUCCESS)
}

fn settings() -> Result<Settings, Faults> {
    app::load_settings(&Sources::of_process())
}

/// A runtime with one thread: HTTP workers and hash threads have their own.
fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// Writes to standard error, for at most a second: a stalled reader must not keep the process from exiting.
fn complain(text: String) {
    let (written, wait) = mpsc::channel();
    thread::spawn(move || {
        eprint!("{text}");
        let _ = written.send(());
    });
    let _ = wait.recv_timeout(Duration::from_secs(1));
}

/// Writes a line to standard output. A reader that closes the pipe (`| head`) is not a failure; a full disk is.
fn say(line: impl Display) {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("signet: standard output cannot be written: {error}");
            process::exit(EXIT_IO);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_and_their_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
