//! `signet keys …`: manages the keys of `jwt.keys_dir`. A running service reads the folder every ten seconds.

use super::{Failure, runtime, say};
use crate::{
    app,
    clock::Clock,
    config::Settings,
    domain::{Action, Timestamp},
    keys::{
        Activation,
        files::{self, KeyFile},
    },
    storage::Storage,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::Path;

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// Generate a key: the first key is active at once, a later one is next
    Generate(Output),
    /// List every key with its state
    List(Output),
    /// Activate the next key once it has been published for five minutes; generate one if there is none
    Rotate {
        /// Activate it at once, after a key has leaked. Services that cache the key set may refuse its tokens for a
        /// minute
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub(super) struct Output {
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Runs one command in the folder that the settings name.
pub(super) fn run(command: KeysCommand, settings: &Settings) -> Result<(), Failure> {
    let folder = settings.jwt.keys_dir.as_deref();
    let folder = folder.ok_or("jwt.keys_dir is not set; `signet keys` manages the keys in that folder")?;
    let (algorithm, now) = (settings.jwt.algorithm, Clock::System.now());
    match command {
        KeysCommand::Generate(output) => {
            announce(&files::generate(folder, algorithm, now)?, &output);
            record(settings, now)?;
        }
        KeysCommand::Rotate { now: at_once, output } => {
            announce(&files::rotate(folder, algorithm, at_once, now)?, &output);
            record(settings, now)?;
        }
        KeysCommand::List(output) => list(folder, settings, now, &output)?,
    }
    Ok(())
}

/// Records a change of the keys in the audit. The key is made already, so a failure is a warning.
fn record(settings: &Settings, now: Timestamp) -> Result<(), Failure> {
    // Keys can be made before the first start.
    if settings.database.sqlite_path().is_some_and(|path| !path.exists()) {
        return Ok(());
    }
    runtime()?.block_on(async {
        let storage = Storage::open(settings, 1).await?;
        if let Err(error) = storage.record(Action::KeysChange, &now.into()).await {
            eprintln!("warning: the audit has no entry of this change: {error}");
        }
        storage.close().await;
        Ok(())
    })
}

fn announce(file: &KeyFile, output: &Output) {
    let (kid, algorithm, name) = (file.key.kid(), file.key.algorithm().name(), file.name());
    if output.json {
        let signs_from = file.activation.activates_at().map(|at| at.to_string());
        say(json!({ "kid": kid, "algorithm": algorithm, "file": name, "signs_from": signs_from }));
        return;
    }
    say(format_args!("{kid} ({algorithm}, {name})"));
    match file.activation {
        Activation::Waiting => say("is next: it is published, and `signet keys rotate` activates it."),
        Activation::Now(_) => say("is active: a replica signs with it within ten seconds after it gets the file."),
        Activation::At(at) => say(format_args!(
            "is activated at {at}. The file must reach every replica at least a minute before that time; each replica \
             reads it within ten seconds."
        )),
    }
}

fn list(folder: &Path, settings: &Settings, now: Timestamp, output: &Output) -> Result<(), Failure> {
    for (file, state) in app::key_states(settings, folder, now)? {
        let (kid, algorithm, file) = (file.key.kid(), file.key.algorithm().name(), file.name());
        if output.json {
            say(json!({ "kid": kid, "algorithm": algorithm, "state": state, "file": file }));
        } else {
            say(format_args!("{state:<9} {algorithm:<6} {kid}  {file}"));
        }
    }
    Ok(())
}
