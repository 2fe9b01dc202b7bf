//! The connections to the configured database: opening, counting and closing them.

pub(super) mod postgres;
pub(super) mod sqlite;

use crate::config::Database;
use std::io;

#[derive(Clone)]
pub(super) enum Pool {
    Postgres(postgres::Connections),
    /// SQLite allows one writer at a time, so `write` holds one connection. Waiting for the writer is then waiting for a
    /// connection, and the same time-out applies.
    Sqlite {
        read: sqlite::Connections,
        write: sqlite::Connections,
        file: sqlite::DatabaseFile,
    },
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("database.url: the folder {0} cannot be created: {1}")]
    Folder(String, io::Error),
    #[error("database.url: {0} cannot be opened as an SQLite database ({1})")]
    File(String, String),
    #[error("database.url is not a valid PostgreSQL connection URL")]
    Url,
}

/// Checks `database.url` as far as that is possible without connecting. Creates nothing.
///
/// # Errors
/// The reason why the database cannot be used.
pub fn check(settings: &Database) -> Result<(), OpenError> {
    match settings.sqlite_path() {
        Some(path) => sqlite::check_file(&path),
        None => postgres::connect_options(settings).map(drop),
    }
}

impl Pool {
    /// Opens SQLite's file, or prepares connections to PostgreSQL without opening one. `workers` threads share them.
    pub(super) async fn open(settings: &Database, workers: usize) -> Result<Self, OpenError> {
        match settings.sqlite_path() {
            Some(path) => sqlite::open(&path, settings).await,
            None => postgres::open(settings, workers),
        }
    }

    /// A pool of one connection, which stays the same until it breaks.
    pub(super) fn only_one(&self) -> Self {
        match self {
            Self::Postgres(connections) => Self::Postgres(connections.only_one()),
            sqlite @ Self::Sqlite { .. } => sqlite.clone(),
        }
    }

    /// How many connections have been opened. After a failover a new connection to PostgreSQL may lead to another server;
    /// SQLite's file is always the same.
    pub(super) fn opened(&self) -> usize {
        match self {
            Self::Postgres(connections) => connections.opened(),
            Self::Sqlite { .. } => 0,
        }
    }

    /// How many connections are in use, and how many are idle.
    pub(super) fn count(&self) -> (usize, usize) {
        match self {
            Self::Postgres(connections) => connections.count(),
            Self::Sqlite { read, write, .. } => {
                let (read, write) = (read.count(), write.count());
                (read.0 + write.0, read.1 + write.1)
            }
        }
    }

    /// Closes every connection, after those in use have been given back.
    pub(super) async fn close(&self) {
        match self {
            Self::Postgres(connections) => connections.close().await,
            Self::Sqlite { read, write, .. } => {
                read.close().await;
                // SQLite copies the write-ahead log into the database file when the last connection closes.
                write.close().await;
            }
        }
    }
}
