//! A database for one test.

use super::proxy::Proxy;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use std::{env, process};
use tempfile::TempDir;

/// A SQLite file in its own folder, which is deleted on drop, or a database on the PostgreSQL server that
/// `scripts/test` started, which the service reaches through a proxy that can break the connection.
pub enum TestDatabase {
    Sqlite { folder: TempDir, lock: Option<TestConnection> },
    Postgres { name: String, server: String, proxy: Proxy },
}

impl TestDatabase {
    pub async fn create() -> Self {
        match env::var("SIGNET_TEST_DATABASE").as_deref() {
            Err(_) | Ok("sqlite") => Self::Sqlite { folder: tempfile::tempdir().unwrap(), lock: None },
            Ok("postgres") => {
                let server = env::var("SIGNET_TEST_POSTGRES").expect("SIGNET_TEST_POSTGRES; run scripts/test");
                let name = format!("test_{}_{}", process::id(), super::email().replace(['@', '.'], "_"));
                let mut admin = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
                admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
                let upstream = server.rsplit_once('@').unwrap().1.to_owned();
                Self::Postgres { name, server, proxy: Proxy::start(upstream).await }
            }
            Ok(other) => panic!("SIGNET_TEST_DATABASE={other}: must be sqlite or postgres"),
        }
    }

    /// The `database.url` of the service.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite { folder, .. } => format!("sqlite://{}", folder.path().join("signet.db").display()),
            Self::Postgres { name, proxy, .. } => format!("postgres://signet@{}/{name}", proxy.address()),
        }
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    /// Opens a connection for the test itself; it bypasses the proxy.
    async fn connect(&self) -> TestConnection {
        match self {
            Self::Sqlite { .. } => TestConnection::Sqlite(SqliteConnection::connect(&self.url()).await.unwrap()),
            Self::Postgres { name, server, .. } => {
                TestConnection::Postgres(PgConnection::connect(&format!("{server}/{name}")).await.unwrap())
            }
        }
    }

    /// Executes a statement and returns how many rows it changed.
    pub async fn execute(&self, sql: &str) -> u64 {
        self.connect().await.try_execute(sql).await.unwrap()
    }

    /// Executes a statement and returns whether the database accepted it.
    pub async fn try_execute(&self, sql: &str) -> bool {
        self.connect().await.try_execute(sql).await.is_ok()
    }

    /// One value of one row, as text.
    pub async fn value(&self, sql: &str) -> String {
        let query = AssertSqlSafe(sql.to_owned());
        match self.connect().await {
            TestConnection::Sqlite(mut connection) => {
                sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
            }
            TestConnection::Postgres(mut connection) => {
                sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
            }
        }
    }

    pub async fn count(&self, table: &str) -> String {
        self.value(&format!("SELECT CAST(COUNT(*) AS TEXT) FROM {table}")).await
    }

    /// Begins a transaction with one statement; its locks are held until it is committed or dropped.
    pub async fn begin(&self, sql: &str) -> TestConnection {
        let mut transaction = self.connect().await;
        transaction.execute(if self.is_sqlite() { "BEGIN IMMEDIATE" } else { "BEGIN" }).await;
        transaction.execute(sql).await;
        transaction
    }

    /// Makes every write fail: on SQLite a transaction of the test holds the write lock; on PostgreSQL the proxy closes
    /// every connection.
    pub async fn interrupt(&mut self) {
        let transaction = self.begin("SELECT 1").await;
        match self {
            Self::Sqlite { lock, .. } => *lock = Some(transaction),
            Self::Postgres { proxy, .. } => proxy.refuse(),
        }
    }

    /// Resets open and new connections to PostgreSQL.
    pub fn reset(&self) {
        if let Self::Postgres { proxy, .. } = self {
            proxy.reset();
        }
    }

    /// Delays all data between the service and PostgreSQL.
    pub fn delay(&self) {
        if let Self::Postgres { proxy, .. } = self {
            proxy.delay();
        }
    }

    /// Makes every write wait: on SQLite as `interrupt` does; connections to PostgreSQL stay open and carry no data.
    pub async fn stall(&mut self) {
        match self {
            Self::Sqlite { .. } => self.interrupt().await,
            Self::Postgres { proxy, .. } => proxy.stall(),
        }
    }

    /// Ends what `interrupt`, `reset`, `delay` or `stall` began.
    pub async fn restore(&mut self) {
        match self {
            Self::Sqlite { lock, .. } => lock.take().unwrap().commit().await,
            Self::Postgres { proxy, .. } => proxy.pass(),
        }
    }
}

/// A connection that the test opened; [`TestDatabase::begin`] returns it with an open transaction.
pub enum TestConnection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl TestConnection {
    async fn try_execute(&mut self, sql: &str) -> sqlx::Result<u64> {
        let sql = AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Self::Sqlite(connection) => connection.execute(sql).await?.rows_affected(),
            Self::Postgres(connection) => connection.execute(sql).await?.rows_affected(),
        })
    }

    pub async fn execute(&mut self, sql: &str) {
        self.try_execute(sql).await.unwrap();
    }

    pub async fn commit(mut self) {
        self.execute("COMMIT").await;
    }
}
