//! Connections to SQLite's file.

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

/// Connections to SQLite's file, opened when they are needed first and kept.
///
/// No pool of sqlx: that asks a connection before and after each use whether it is alive, which is two changes of
/// threads each time, where a look-up by key needs two in all; and a file does not hang up.
#[derive(Clone)]
pub(super) struct Connections(Arc<Kept>);

struct Kept {
    options: SqliteConnectOptions,
    max: u32,
    patience: Duration,
    /// The one used last is used first: its pages are in the processor's caches.
    idle: Mutex<Vec<SqliteConnection>>,
    /// One for each that may be in use.
    permits: Arc<Semaphore>,
}

impl Connections {
    /// At most `max` at a time; who needs one waits for it for `patience`.
    pub(super) fn new(options: SqliteConnectOptions, max: u32, patience: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(max as usize));
        Self(Arc::new(Kept { options, max, patience, idle: Mutex::default(), permits }))
    }

    /// Takes a connection, for one unit of work.
    ///
    /// # Errors
    /// When none is free in time, or none can be opened.
    pub(super) async fn acquire(&self) -> Result<Lent, sqlx::Error> {
        let permit = timeout(self.0.patience, Arc::clone(&self.0.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            // Boxed: its future is large, and seldom needed.
            None => Box::pin(SqliteConnection::connect_with(&self.0.options)).await?,
        };
        Ok(Lent { connection: Some(connection), to: self.clone(), _permit: permit })
    }

    /// How many are in use, and how many wait for somebody.
    pub(super) fn count(&self) -> (usize, usize) {
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

/// A connection in use. Unless its work succeeded it is closed instead of given back: SQLite rolls back by itself when
/// the disk is full, and the driver would go on to believe in the transaction.
pub(super) struct Lent {
    connection: Option<SqliteConnection>,
    to: Connections,
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    pub(super) fn give_back(mut self) {
        self.to.idle().extend(self.connection.take());
    }

    /// Closes it after its work failed.
    #[expect(clippy::unused_self, reason = "as a connection to PostgreSQL is closed; here dropping it is all")]
    pub(super) fn close(self, _: &sqlx::Error) {}
}

/// The file that the connections have open, and where it was.
#[derive(Clone)]
pub(super) struct DatabaseFile {
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

    /// Whether it is still there. What is written to a file that was removed or replaced is lost with the last connection.
    pub(super) async fn is_in_place(&self) -> bool {
        let Self { path, device, inode } = self.clone();
        // A file system may take its time to answer.
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
    async fn what_is_given_back_is_used_again_and_what_is_not_is_closed() {
        let connections = connections(2);
        let (one, mut other) = (connections.acquire().await.unwrap(), connections.acquire().await.unwrap());
        sqlx::query("CREATE TABLE mark (id INTEGER)").execute(other.connection().unwrap()).await.unwrap();
        drop(one);
        assert_eq!(connections.count(), (1, 0));
        other.give_back();
        assert_eq!(connections.count(), (0, 1));
        let mut again = connections.acquire().await.unwrap();
        sqlx::query("SELECT id FROM mark").execute(again.connection().unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let connections = connections(1);
        let only = connections.acquire().await.unwrap();
        assert!(matches!(connections.acquire().await, Err(sqlx::Error::PoolTimedOut)));
        drop(only);
        connections.acquire().await.unwrap().give_back();
    }

    #[tokio::test]
    async fn closing_waits_for_those_in_use() {
        let connections = connections(2);
        let used = connections.acquire().await.unwrap();
        let closing = tokio::spawn({
            let connections = connections.clone();
            async move { connections.close().await }
        });
        tokio::task::yield_now().await;
        assert!(!closing.is_finished());
        used.give_back();
        closing.await.unwrap();
        assert!(matches!(connections.acquire().await, Err(sqlx::Error::PoolClosed)));
    }
}
