//! `signet migrate`: creates or updates the tables of the database.

use super::{Failure, say};
use crate::{
    config::Settings,
    storage::{self, Storage},
};

pub(super) async fn run(settings: &Settings) -> Result<(), Failure> {
    let storage = Storage::open(settings, 1).await?;
    let conflicts = storage.migrate().await?;
    storage.close().await;
    say("The database is up to date.");
    for user in conflicts {
        say(format_args!("warning: user {user}: {}", storage::NAME_CONFLICT));
    }
    Ok(())
}
