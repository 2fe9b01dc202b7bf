//! A database for one test, gone with it.

use super::proxy::Proxy;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use std::{env, process};
use tempfile::TempDir;

/// SQLite in a folder of its own, or a database of its own in the PostgreSQL that `scripts/test` started,
/// reached through a proxy that can break the connection.
pub enum TestDatabase {
    Sqlite { folder: TempDir, lock: Option<Beside> },
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

    /// What the service is told.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite { folder, .. } => format!("sqlite://{}", folder.path().join("signet.db").display()),
            Self::Postgres { name, proxy, .. } => format!("postgres://signet@{}/{name}", proxy.address()),
        }
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    /// Changes rows behind the service's back.
    pub async fn execute(&self, sql: &str) -> u64 {
        self.change(sql).await.unwrap()
    }

    /// Whether the database takes such a change.
    pub async fn try_execute(&self, sql: &str) -> bool {
        self.change(sql).await.is_ok()
    }

    async fn change(&self, sql: &str) -> sqlx::Result<u64> {
        let sql = AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Self::Sqlite { .. } => {
                let mut connection = SqliteConnection::connect(&self.url()).await?;
                connection.execute(sql).await?.rows_affected()
            }
            Self::Postgres { name, server, .. } => {
                let mut connection = PgConnection::connect(&format!("{server}/{name}")).await?;
                connection.execute(sql).await?.rows_affected()
            }
        })
    }

    /// One value of one row, as text.
    pub async fn value(&self, sql: &str) -> String {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite { .. } => {
                let mut connection = SqliteConnection::connect(&self.url()).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
            }
            Self::Postgres { name, server, .. } => {
                let mut connection = PgConnection::connect(&format!("{server}/{name}")).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
            }
        }
    }

    /// Begins a transaction beside the service, with one statement; it holds whatever that locks.
    pub async fn begin(&self, sql: &str) -> Beside {
        let mut beside = match self {
            Self::Sqlite { .. } => Beside::Sqlite(SqliteConnection::connect(&self.url()).await.unwrap()),
            Self::Postgres { name, server, .. } => {
                Beside::Postgres(PgConnection::connect(&format!("{server}/{name}")).await.unwrap())
            }
        };
        beside.execute(if self.is_sqlite() { "BEGIN IMMEDIATE" } else { "BEGIN" }).await;
        beside.execute(sql).await;
        beside
    }

    /// Makes every write fail from now on: another writer holds SQLite's lock, PostgreSQL's connections break.
    pub async fn take_away(&mut self) {
        let beside = self.begin("SELECT 1").await;
        match self {
            Self::Sqlite { lock, .. } => *lock = Some(beside),
            Self::Postgres { proxy, .. } => proxy.refuse(),
        }
    }

    /// Resets PostgreSQL's connections, and each that comes.
    pub fn reset(&self) {
        if let Self::Postgres { proxy, .. } = self {
            proxy.reset();
        }
    }

    /// Has each piece of PostgreSQL's talk take its time.
    pub fn delay(&self) {
        if let Self::Postgres { proxy, .. } = self {
            proxy.delay();
        }
    }

    /// Makes every write wait for ever: PostgreSQL's connections stay open and say nothing.
    pub async fn stall(&mut self) {
        match self {
            Self::Sqlite { .. } => self.take_away().await,
            Self::Postgres { proxy, .. } => proxy.stall(),
        }
    }

    pub async fn bring_back(&mut self) {
        match self {
            Self::Sqlite { lock, .. } => lock.take().unwrap().commit().await,
            Self::Postgres { proxy, .. } => proxy.accept(),
        }
    }
}

/// An open transaction that is not the service's.
pub enum Beside {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Beside {
    pub async fn execute(&mut self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => connection.execute(sql).await.map(drop).unwrap(),
            Self::Postgres(connection) => connection.execute(sql).await.map(drop).unwrap(),
        }
    }

    pub async fn commit(mut self) {
        self.execute("COMMIT").await;
    }
}
