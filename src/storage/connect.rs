//! Opening the database that `database.url` names.

use super::{
    Pool, Storage,
    error::{classify, is_worth_a_retry},
    postgres,
    revoked::Revoked,
    sqlite,
    work::Outages,
};
use crate::{
    config::{Database, MaxStaleness, Settings},
    domain::Seconds,
};
use rustix::fs::{Access, access};
use sqlx::{
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

/// How far the clock of the replica that made a token may be ahead of the one that takes it back.
const CLOCKS_DIFFER: Seconds = Seconds(60);

impl Storage {
    /// Opens the database. SQLite's file and its folder are made when they are missing, for their owner only;
    /// PostgreSQL is not asked for anything yet, because it may be away. `workers` threads share its connections.
    ///
    /// # Errors
    /// When SQLite's file cannot be opened or made.
    pub async fn open(settings: &Settings, workers: usize) -> Result<Self, OpenError> {
        let Settings { database, jwt, revocation, .. } = settings;
        let pool = match database.sqlite_path() {
            Some(path) => open_sqlite(&path, database).await?,
            None => open_postgres(database, workers)?,
        };
        let deadline = database.acquire_timeout + Duration::from_secs(2);
        let max_staleness = match revocation.max_staleness {
            MaxStaleness::After(length) => Some(length),
            MaxStaleness::Never => None,
        };
        // A refresh may come within the leeway after the session's end, and its access token live on into another.
        let leeway = Seconds(2 * jwt.leeway.0 + CLOCKS_DIFFER.0);
        let reach = Seconds(jwt.access_token_lifetime.0.saturating_add(leeway.0));
        let revoked = Arc::new(Revoked::new(max_staleness, reach));
        // Not in PostgreSQL, where somebody whose row is locked would hold up the others.
        let together = matches!(pool, Pool::Sqlite { .. }).then(mpsc::unbounded_channel);
        let (beginnings, waiting) = together.unzip();
        let storage = Self { pool, deadline, outages: Arc::new(Outages::default()), beginnings, revoked };
        if let Some(waiting) = waiting {
            tokio::spawn(storage.clone().begin_together(waiting));
        }
        Ok(storage)
    }

    /// Whether this is the built-in SQLite, which migrates itself.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.pool, Pool::Sqlite { .. })
    }
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("database.url: the folder {0} cannot be made: {1}")]
    Folder(String, io::Error),
    #[error("database.url: {0} cannot be opened as an SQLite database ({1})")]
    File(String, String),
    #[error("database.url is not an address that PostgreSQL's clients understand")]
    Url,
}

/// Whether `database.url` names a database that can be used, as far as that can be told without connecting. Makes nothing.
///
/// # Errors
/// Why not.
pub fn check(settings: &Database) -> Result<(), OpenError> {
    match settings.sqlite_path() {
        Some(path) => check_file(&path),
        None => postgres_options(settings).map(drop),
    }
}

/// Reads the head of the file, which closes it again: not while this process has it open as a database, whose locks would
/// go with that (sqlite.org/howtocorrupt.html §2.2).
fn check_file(path: &Path) -> Result<(), OpenError> {
    const HEAD: &[u8; 16] = b"SQLite format 3\0";
    let unusable = |why: &str| Err(OpenError::File(path.display().to_string(), why.to_owned()));
    let Ok(file) = path.metadata() else {
        // It will be made, and so will its folder.
        let above =
            path.ancestors().skip(1).map(|folder| if folder == Path::new("") { Path::new(".") } else { folder });
        let folder = above.into_iter().find(|folder| folder.exists());
        return match folder {
            Some(folder) if folder.is_dir() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok() => Ok(()),
            _ => unusable("it cannot be made there"),
        };
    };
    if !file.is_file() {
        return unusable("it is not a regular file");
    }
    if access(path, Access::READ_OK | Access::WRITE_OK).is_err() {
        return unusable("it cannot be read and written");
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD.len() as u64).read_to_end(&mut head));
    match read {
        Ok(0) => Ok(()),
        Ok(_) if head == HEAD => Ok(()),
        _ => unusable("it is another kind of file"),
    }
}

async fn open_sqlite(path: &Path, settings: &Database) -> Result<Pool, OpenError> {
    let shown = || path.display().to_string();
    check_file(path)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| OpenError::Folder(folder.display().to_string(), error))?;
    }
    // Made here, for its owner only: it holds password hashes. SQLite gives its other files the same mode.
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    file.map_err(|error| OpenError::File(shown(), error.to_string()))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged write survives a power cut (NORMAL would not promise that in WAL mode).
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(settings.acquire_timeout);
    let patience = settings.acquire_timeout;
    let write = sqlite::Connections::new(options.clone(), 1, patience);
    let read = sqlite::Connections::new(options.pragma("query_only", "ON"), settings.max_connections, patience);
    let open = async {
        loop {
            match write.acquire().await {
                // Two that open a new file at once both give it a write-ahead log: SQLite lets neither of them wait.
                Err(error) if is_worth_a_retry(&error) => sleep(Duration::from_millis(20)).await,
                opened => break opened?.give_back(),
            }
        }
        read.acquire().await?.give_back();
        Ok::<_, sqlx::Error>(())
    };
    let opened = timeout(patience, open).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    opened.map_err(|error| OpenError::File(shown(), classify(&error).to_string()))?;
    let file = sqlite::DatabaseFile::at(path).map_err(|error| OpenError::File(shown(), error.to_string()))?;
    Ok(Pool::Sqlite { read, write, file })
}

fn open_postgres(settings: &Database, workers: usize) -> Result<Pool, OpenError> {
    let connect = postgres_options(settings)?;
    let workers = u32::try_from(workers).unwrap_or(u32::MAX);
    let max = settings.max_connections.div_ceil(workers).max(1);
    Ok(Pool::Postgres(postgres::Connections::new(connect, max, settings.acquire_timeout)))
}

fn postgres_options(settings: &Database) -> Result<PgConnectOptions, OpenError> {
    let url = settings.url.expose_secret();
    let options = PgConnectOptions::from_str(url).map_err(|_| OpenError::Url)?;
    Ok(if url.contains("application_name=") { options } else { options.application_name("signet") })
}
