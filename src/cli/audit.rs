//! `signet audit tail`: the latest entries of the audit.

use super::{
    Failure, say,
    user::{explain, find, open},
};
use crate::{
    config::Settings,
    domain::{Limit, UserId},
    http::AuditResponse,
};
use clap::Subcommand;

#[derive(Subcommand)]
pub(super) enum AuditCommand {
    /// Print the latest entries, the oldest of them first: id, time, action, outcome, ids of the actor and the subject, address, count
    Tail {
        /// Only entries about this user: id, e-mail or username
        user: Option<String>,
        /// How many entries
        #[arg(long, short = 'n', default_value_t = 50)]
        limit: usize,
        /// Only entries before the one with this id
        #[arg(long, value_name = "ID", default_value_t = i64::MAX)]
        before: i64,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
}

/// Runs one command on the database that the settings name.
pub(super) async fn run(command: AuditCommand, settings: &Settings) -> Result<(), Failure> {
    let AuditCommand::Tail { user, limit, mut before, json } = command;
    let (storage, user_admin) = open(settings).await?;
    let user = match user {
        // The entries of a deleted user are found by its id.
        Some(name) => match UserId::parse(&name) {
            Some(id) => Some(id),
            None => Some(find(&user_admin, &name).await?.id),
        },
        None => None,
    };
    let mut entries = Vec::new();
    while entries.len() < limit {
        let page = user_admin.audit(user, before, Limit::MAX).await.map_err(explain)?;
        before = page.items.last().map_or(before, |entry| entry.id);
        entries.extend(page.items);
        if !page.has_more {
            break;
        }
    }
    entries.truncate(limit);
    storage.close().await;
    for entry in entries.into_iter().rev().map(AuditResponse::from) {
        if json {
            say(serde_json::to_string(&entry).unwrap_or_default());
        } else {
            say(entry);
        }
    }
    Ok(())
}
