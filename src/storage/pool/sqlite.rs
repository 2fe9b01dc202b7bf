//! Connections to SQLite's file.

use super::{
    super::error::{classify, is_worth_a_retry},
    OpenError, Pool,
};
use crate::{config::Database, os::reason};
use rustix::fs::{Access, access};
use sqlx::{
    Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{sleep, timeout},
};

/// Checks that the file is missing, empty or an SQLite database.
///
/// Must not run while this process has the database open: closing any file descriptor of the file drops SQLite's locks
/// (sqlite.org/howtocorrupt.html §2.2).
pub(super) fn check_file(path: &Path) -> Result<(), OpenError> {
    const HEAD: &[u8; 16] = b"SQLite format 3\0";
    let unusable = |why: &str| Err(OpenError::File(path.display().to_string(), why.to_owned()));
    let file = match path.metadata() {
        Ok(file) => file,
        // `open` creates the file and its folder.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = path.ancestors().skip(1);
            let mut above = above.map(|folder| if folder == Path::new("") { Path::new(".") } else { folder });
            return match above.find(|folder| folder.exists()) {
                Some(folder) if folder.is_dir() => match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
                    Ok(()) => Ok(()),
                    Err(error) => unusable(&format!("it cannot be created there: {}", reason(&error.into()))),
                },
                _ => unusable("it cannot be created there"),
            };
        }
        // For example, the name is too long, or a file has the name of the folder.
        Err(error) => return unusable(&format!("it cannot be created there: {}", reason(&error))),
    };
    if !file.is_file() {
        return unusable("it is not a regular file");
    }
    if let Err(error) = access(path, Access::READ_OK | Access::WRITE_OK) {
        return unusable(&format!("it cannot be read and written: {}", reason(&error.into())));
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD.len() as u64).read_to_end(&mut head));
    match read {
        Ok(0) => Ok(()),
        Ok(_) if head == HEAD => Ok(()),
        _ => unusable("it is another kind of file"),
    }
}

/// Opens the file. Creates it and its folder where they are missing, accessible to their owner only.
pub(super) async fn open(path: &Path, settings: &Database) -> Result<Pool, OpenError> {
    let shown = || path.display().to_string();
    check_file(path)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| OpenError::Folder(folder.display().to_string(), error))?;
    }
    // Created here, so that only its owner can read the password hashes. SQLite gives its other files the same mode.
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    file.map_err(|error| OpenError::File(shown(), error.to_string()))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged write survives a power cut. In WAL mode NORMAL does not promise that.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(settings.acquire_timeout);
    let acquire_timeout = settings.acquire_timeout;
    let write = Connections::new(options.clone(), 1, acquire_timeout);
    let read = Connections::new(options.pragma("query_only", "ON"), settings.max_connections, acquire_timeout);
    let open = async {
        loop {
            match write.acquire().await {
                // When two processes open a new file at the same time, both switch it to a write-ahead log, and SQLite
                // returns SQLITE_BUSY at once instead of waiting.
                Err(error) if is_worth_a_retry(&error) => sleep(Duration::from_millis(20)).await,
                opened => break opened?.give_back(),
            }
        }
        read.acquire().await?.give_back();
        Ok::<_, sqlx::Error>(())
    };
    let opened = timeout(acquire_timeout, open).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    opened.map_err(|error| OpenError::File(shown(), classify(&error).to_string()))?;
    let file = DatabaseFile::at(path).map_err(|error| OpenError::File(shown(), error.to_string()))?;
    Ok(Pool::Sqlite { read, write, file })
}

/// Connections to SQLite's file, opened at their first use and kept.
///
/// sqlx's own pool pings a connection before and after each use. Each ping switches threads twice, as a whole look-up
/// by key does, and a file cannot disconnect.
#[derive(Clone)]
pub(in crate::storage) struct Connections(Arc<Kept>);

struct Kept {
    options: SqliteConnectOptions,
    max: u32,
    acquire_timeout: Duration,
    /// A stack: the pages of the connection used last are in the processor's caches.
    idle: Mutex<Vec<SqliteConnection>>,
    /// One permit for each connection that may be in use.
    permits: Arc<Semaphore>,
}

impl Connections {
    /// At most `max` at a time; [`Self::acquire`] waits for one for `acquire_timeout`.
    pub(in crate::storage) fn new(options: SqliteConnectOptions, max: u32, acquire_timeout: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(max as usize));
        Self(Arc::new(Kept { options, max, acquire_timeout, idle: Mutex::default(), permits }))
    }

    /// Takes a connection, for one unit of work.
    ///
    /// # Errors
    /// When none is free in time, or none can be opened.
    pub(in crate::storage) async fn acquire(&self) -> Result<PooledConnection, sqlx::Error> {
        let permit = timeout(self.0.acquire_timeout, Arc::clone(&self.0.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            // Boxed: its future is large and rarely needed.
            None => Box::pin(SqliteConnection::connect_with(&self.0.options)).await?,
        };
        Ok(PooledConnection { connection: Some(connection), to: self.clone(), _permit: permit })
    }

    /// How many are in use, and how many are idle.
    pub(in crate::storage) fn count(&self) -> (usize, usize) {
        (self.0.max as usize - self.0.permits.available_permits(), self.idle().len())
    }

    /// Closes every connection, after those in use have been given back.
    pub(super) async fn close(&self) {
        let all = self.0.permits.acquire_many(self.0.max).await;
        self.0.permits.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            let _ = connection.close().await;
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use. Dropping it closes it; [`Self::give_back`] is for a connection whose work succeeded. (When the disk
/// is full SQLite rolls back by itself, and the driver still believes that it is in a transaction.)
pub(in crate::storage) struct PooledConnection {
    connection: Option<SqliteConnection>,
    to: Connections,
    _permit: OwnedSemaphorePermit,
}

impl PooledConnection {
    pub(in crate::storage) fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    pub(in crate::storage) fn give_back(&mut self) {
        self.to.idle().extend(self.connection.take());
    }
}

/// The file that the connections have open, and where it was.
#[derive(Clone)]
pub(in crate::storage) struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    /// # Errors
    /// When there is no file.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let file = path.metadata()?;
        Ok(Self { path: path.to_owned(), device: file.dev(), inode: file.ino() })
    }

    /// Whether it is still there. Data written to a file that was removed or replaced is lost when the last connection closes.
    pub(in crate::storage) async fn is_in_place(&self) -> bool {
        let Self { path, device, inode } = self.clone();
        // A file system may block.
        let is_same = move || path.metadata().is_ok_and(|file| (file.dev(), file.ino()) == (device, inode));
        spawn_blocking(is_same).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(max: u32) -> Connections {
        Connections::new(SqliteConnectOptions::new().in_memory(true), max, Duration::from_millis(20))
    }

    #[tokio::test]
    async fn a_connection_that_is_given_back_is_reused_and_any_other_is_closed() {
        let connections = connections(2);
        let (one, mut other) = (connections.acquire().await.unwrap(), connections.acquire().await.unwrap());
        sqlx::query("CREATE TABLE mark (id INTEGER)").execute(other.connection().unwrap()).await.unwrap();
        drop(one);
        assert_eq!(connections.count(), (1, 0));
        other.give_back();
        drop(other);
        assert_eq!(connections.count(), (0, 1));
        let mut again = connections.acquire().await.unwrap();
        sqlx::query("SELECT id FROM mark").execute(again.connection().unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn waiting_for_a_connection_times_out() {
        let connections = connections(1);
        let only = connections.acquire().await.unwrap();
        assert!(matches!(connections.acquire().await, Err(sqlx::Error::PoolTimedOut)));
        drop(only);
        connections.acquire().await.unwrap().give_back();
    }

    #[tokio::test]
    async fn closing_the_pool_waits_for_the_connections_in_use() {
        let connections = connections(2);
        let mut used = connections.acquire().await.unwrap();
        let closing = tokio::spawn({
            let connections = connections.clone();
            async move { connections.close().await }
        });
        tokio::task::yield_now().await;
        assert!(!closing.is_finished());
        used.give_back();
        drop(used);
        closing.await.unwrap();
        assert!(matches!(connections.acquire().await, Err(sqlx::Error::PoolClosed)));
    }
}
