//! `signet keys …`: the keys of `jwt.keys_dir`, with the service running or not. A running one takes them up at SIGHUP.

use super::{Failure, say};
use crate::{
    app,
    clock::Clock,
    config::Settings,
    crypto::key_files::{self, KeyFile},
    domain::Timestamp,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::Path;

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// Make a key in the folder of keys: the first signs at once, another is next
    Generate(Output),
    /// Show every key of the folder and its state, for whoever has taken them up
    List(Output),
    /// Have the next key sign, as soon as everybody can know it; make one if there is none
    Rotate {
        /// At once: for a key that others may have, at the price of refused tokens where it is not known yet
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub(super) struct Output {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

const RELOAD: &str = "Have every replica take it up: kill -HUP.";

/// Runs one command in the folder that the settings name.
pub(super) fn run(command: KeysCommand, settings: &Settings) -> Result<(), Failure> {
    let folder = settings.jwt.keys_dir.as_deref();
    let folder = folder.ok_or("jwt.keys_dir is not set: `signet keys` looks after the keys of that folder")?;
    let (algorithm, now) = (settings.jwt.algorithm, Clock::System.now());
    match command {
        KeysCommand::Generate(output) => {
            let key = key_files::generate(folder, algorithm, now)?;
            announce(&key, now, &output);
        }
        KeysCommand::Rotate { now: at_once, output } => {
            let key = key_files::rotate(folder, algorithm, at_once, now)?;
            announce(&key, now, &output);
        }
        KeysCommand::List(output) => list(folder, settings, now, &output)?,
    }
    Ok(())
}

fn announce(key: &KeyFile, now: Timestamp, output: &Output) {
    let (kid, algorithm, file) = (key.key.kid(), key.key.algorithm().name(), key.name());
    if output.json {
        let signs_from = key.begins.map(|begin| begin.at.to_string());
        say(json!({ "kid": kid, "algorithm": algorithm, "file": file, "signs_from": signs_from }));
        return;
    }
    say(format_args!("{kid} ({algorithm}, {file})"));
    match key.begins {
        None => say(format_args!("is next: it is published, and signs after `signet keys rotate`. {RELOAD}")),
        Some(begin) if begin.at <= now => say(format_args!("signs from now on. {RELOAD}")),
        Some(begin) => say(format_args!("signs from {} on. {RELOAD} Before then.", begin.at)),
    }
}

fn list(folder: &Path, settings: &Settings, now: Timestamp, output: &Output) -> Result<(), Failure> {
    // As whoever has known these keys for ever: not as a replica that begins now.
    let ring = app::key_ring(settings, folder, Timestamp(i64::MIN))?;
    let files: Vec<(String, String)> = key_files::read_folder(folder, settings.jwt.algorithm)?
        .iter()
        .map(|file| (file.key.kid().to_owned(), file.name()))
        .collect();
    for (key, state) in ring.states(now) {
        let file = files.iter().find(|(kid, _)| kid == key.kid()).map_or("", |(_, name)| name);
        let (kid, algorithm) = (key.kid(), key.algorithm().name());
        if output.json {
            say(json!({ "kid": kid, "algorithm": algorithm, "state": state, "file": file }));
        } else {
            say(format_args!("{state:<9} {algorithm:<6} {kid}  {file}"));
        }
    }
    Ok(())
}
