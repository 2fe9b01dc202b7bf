//! Opening the database that `database.url` names.

use super::{
    PerThread, Pool, Storage,
    error::{classify, is_worth_a_retry},
    revoked::Revoked,
    sqlite::Connections,
    work::Outages,
};
use crate::{
    config::{Database, MaxStaleness, Settings},
    domain::Seconds,
};
use sqlx::{
    Connection, Executor,
    postgres::{PgConnectOptions, PgConnection, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use tokio::time::{sleep, timeout};

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
        Ok(Self { pool, deadline, outages: Arc::new(Outages::default()), revoked })
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

async fn open_sqlite(path: &Path, settings: &Database) -> Result<Pool, OpenError> {
    let shown = || path.display().to_string();
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
    let write = Connections::new(options.clone(), 1, patience);
    let read = Connections::new(options.pragma("query_only", "ON"), settings.max_connections, patience);
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
    Ok(Pool::Sqlite { read, write })
}

fn open_postgres(settings: &Database, workers: usize) -> Result<Pool, OpenError> {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX);
    let connect = PgConnectOptions::from_str(settings.url.expose_secret()).map_err(|_| OpenError::Url)?;
    let options = PgPoolOptions::new()
        .max_connections(settings.max_connections.div_ceil(workers).max(1))
        .acquire_timeout(settings.acquire_timeout)
        // A question before each use would double the round trips; one after a pause finds what a restart broke.
        .test_before_acquire(false)
        .before_acquire(|connection, use_so_far| {
            Box::pin(async move {
                if use_so_far.idle_for <= Duration::from_secs(1) {
                    return Ok(true);
                }
                // What does not answer at once is replaced within the same wait for a connection.
                Ok(matches!(timeout(Duration::from_millis(500), connection.ping()).await, Ok(Ok(()))))
            })
        });
    Ok(Pool::Postgres(Arc::new(PerThread::new(options, connect.application_name("signet")))))
}

/// Has PostgreSQL plan for what is asked here: a few rows, which an index finds.
///
/// While the statistics of a table are old (after an import, or between a vacuum and the next ANALYZE), it may think that
/// reading the whole table finds them sooner, or that compiling the query pays: a sign-in of 1 ms takes 3 s then.
pub(super) async fn plan_by_index(connection: &mut PgConnection) -> sqlx::Result<()> {
    const SETTINGS: &str = "SET enable_seqscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0";
    match connection.execute(SETTINGS).await {
        // Another engine that speaks PostgreSQL's protocol has no such settings, and a planner of its own.
        Err(sqlx::Error::Database(_)) => Ok(()),
        done => done.map(drop),
    }
}
