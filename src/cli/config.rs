//! `signet config …`: checks or prints the settings.

use super::{Failure, say};
use crate::{app, clock::Clock, config::Settings, storage};
use clap::Subcommand;

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the settings, the keys and the address of the database; list every fault
    Check,
    /// Print every setting and where it came from; secrets are masked
    Print,
}

pub(super) fn run(command: &ConfigCommand, settings: &Settings) -> Result<(), Failure> {
    match command {
        ConfigCommand::Print => say(settings.print().trim_end()),
        ConfigCommand::Check => {
            storage::check(&settings.database)?;
            app::check_keys(settings, Clock::System.now())?;
            say("Configuration OK.");
            for warning in app::warnings(settings) {
                say(format_args!("warning: {warning}"));
            }
        }
    }
    Ok(())
}
