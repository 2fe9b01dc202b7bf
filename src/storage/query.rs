//! Sends one statement to the configured database.
//!
//! The rest of `storage` writes `tx.query(SQL).bind(..).fetch_optional().await?` and does not depend on the configured
//! database. A [`Query`] holds the statement of one of the two drivers; the macro `send` sends it with that driver.
//!
//! A connection goes back to its pool when its last statement succeeded and no transaction is open. In every other case
//! (an error, a deadline that cancelled the future, a [`Tx`] that was dropped) it is closed.

use super::pool::{postgres, sqlite};
use sqlx::{
    Encode, FromRow, Postgres, SqlSafeStr, Sqlite, Type,
    postgres::{PgArguments, PgRow},
    sqlite::{SqliteArguments, SqliteRow},
};

/// Sends a statement to the database that it was made for, and records whether its connection can be used again.
macro_rules! send {
    ($query:expr, |$statement:ident, $connection:ident| $outcome:expr) => {{
        let Query { statement, is_reusable, is_reusable_after } = $query;
        // Until the database has answered: a cancelled future leaves it false.
        *is_reusable = false;
        let outcome = match statement {
            Statement::Postgres(pooled, $statement) => {
                let $connection = pooled.connection()?;
                let outcome: Result<_, sqlx::Error> = $outcome;
                if let Err(error) = &outcome {
                    pooled.note_failure(error);
                }
                outcome
            }
            Statement::Sqlite(pooled, $statement) => {
                let $connection = pooled.connection()?;
                $outcome
            }
        };
        *is_reusable = is_reusable_after && outcome.is_ok();
        outcome
    }};
}

/// A connection in use.
pub(super) struct Connection {
    pooled: EitherConnection,
    is_reusable: bool,
}

enum EitherConnection {
    Postgres(postgres::PooledConnection),
    Sqlite(sqlite::PooledConnection),
}

impl From<postgres::PooledConnection> for Connection {
    fn from(pooled: postgres::PooledConnection) -> Self {
        Self { pooled: EitherConnection::Postgres(pooled), is_reusable: true }
    }
}

impl From<sqlite::PooledConnection> for Connection {
    fn from(pooled: sqlite::PooledConnection) -> Self {
        Self { pooled: EitherConnection::Sqlite(pooled), is_reusable: true }
    }
}

impl Connection {
    /// A statement outside a transaction, which only reads.
    ///
    /// An `INSERT … RETURNING` outside a transaction would hide a full disk: sqlx reads the first row and then resets
    /// the statement; SQLite commits at that moment, and sqlx does not report its error.
    pub(super) fn query(&mut self, sql: impl SqlSafeStr) -> Query<'_> {
        self.statement(sql, true)
    }

    /// Closes the connection although its last statement succeeded.
    pub(super) fn close(mut self) {
        self.is_reusable = false;
    }

    /// Begins a transaction.
    pub(super) async fn begin(mut self) -> Result<Tx, sqlx::Error> {
        // Immediate: two writers that both began by reading would fail in SQLite instead of waiting.
        let begin = if matches!(self.pooled, EitherConnection::Sqlite(_)) { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.control(begin, false).await?;
        Ok(Tx(self))
    }

    /// Sends `BEGIN`, `COMMIT` or `ROLLBACK`, without preparing it first.
    async fn control(&mut self, sql: &'static str, is_reusable_after: bool) -> Result<(), sqlx::Error> {
        let query = self.statement(sql, is_reusable_after);
        send!(query, |_statement, connection| sqlx::raw_sql(sql).execute(connection).await.map(drop))
    }

    fn statement(&mut self, sql: impl SqlSafeStr, is_reusable_after: bool) -> Query<'_> {
        let statement = match &mut self.pooled {
            EitherConnection::Postgres(pooled) => Statement::Postgres(pooled, sqlx::query(sql)),
            EitherConnection::Sqlite(pooled) => Statement::Sqlite(pooled, sqlx::query(sql)),
        };
        Query { statement, is_reusable: &mut self.is_reusable, is_reusable_after }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_reusable {
            match &mut self.pooled {
                EitherConnection::Postgres(pooled) => pooled.give_back(),
                EitherConnection::Sqlite(pooled) => pooled.give_back(),
            }
        }
    }
}

/// An open transaction. Dropping it closes its connection, which rolls it back.
pub(super) struct Tx(Connection);

impl Tx {
    pub(super) fn query(&mut self, sql: impl SqlSafeStr) -> Query<'_> {
        self.0.statement(sql, false)
    }

    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.0.control("COMMIT", true).await
    }

    /// Rolls back and keeps the connection: for an outcome that is not an error.
    pub(super) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        self.0.control("ROLLBACK", true).await
    }
}

/// A value that both databases accept.
pub(super) trait Value<'v>: Encode<'v, Postgres> + Type<Postgres> + Encode<'v, Sqlite> + Type<Sqlite> {}

impl<'v, T> Value<'v> for T where T: Encode<'v, Postgres> + Type<Postgres> + Encode<'v, Sqlite> + Type<Sqlite> {}

/// A row that both databases return.
pub(super) trait Row: Send + Unpin + for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> {}

impl<T> Row for T where T: Send + Unpin + for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> {}

/// A statement with the values for its placeholders.
#[must_use = "a statement does nothing until it is sent"]
pub(super) struct Query<'c> {
    statement: Statement<'c>,
    is_reusable: &'c mut bool,
    /// Whether the connection may go back to its pool when this statement has succeeded.
    is_reusable_after: bool,
}

enum Statement<'c> {
    Postgres(&'c mut postgres::PooledConnection, sqlx::query::Query<'static, Postgres, PgArguments>),
    Sqlite(&'c mut sqlite::PooledConnection, sqlx::query::Query<'static, Sqlite, SqliteArguments>),
}

impl Query<'_> {
    /// Binds a value to the next placeholder: the first call to `$1`.
    pub(super) fn bind<'v>(self, value: impl Value<'v>) -> Self {
        let statement = match self.statement {
            Statement::Postgres(pooled, statement) => Statement::Postgres(pooled, statement.bind(value)),
            Statement::Sqlite(pooled, statement) => Statement::Sqlite(pooled, statement.bind(value)),
        };
        Self { statement, ..self }
    }

    /// Runs the statement. Returns how many rows it changed.
    pub(super) async fn execute(self) -> Result<u64, sqlx::Error> {
        send!(self, |statement, connection| statement.execute(connection).await.map(|done| done.rows_affected()))
    }

    /// The first row.
    pub(super) async fn fetch_one<R: Row>(self) -> Result<R, sqlx::Error> {
        self.fetch_optional().await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// The first row, if there is one.
    pub(super) async fn fetch_optional<R: Row>(self) -> Result<Option<R>, sqlx::Error> {
        send!(self, |statement, connection| match statement.fetch_optional(connection).await {
            Ok(row) => row.map(|row| R::from_row(&row)).transpose(),
            Err(error) => Err(error),
        })
    }

    /// All rows.
    pub(super) async fn fetch_all<R: Row>(self) -> Result<Vec<R>, sqlx::Error> {
        send!(self, |statement, connection| statement.try_map(|row| R::from_row(&row)).fetch_all(connection).await)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::pool::sqlite::Connections, *};
    use sqlx::sqlite::SqliteConnectOptions;
    use std::time::Duration;

    #[tokio::test]
    async fn only_a_connection_in_a_known_state_is_used_again() {
        let pool = Connections::new(SqliteConnectOptions::new().in_memory(true), 1, Duration::from_secs(1));
        let connection = async || Connection::from(pool.acquire().await.unwrap());
        let idle = || pool.count().1;

        drop(connection().await);
        assert_eq!(idle(), 1, "unused");
        let (one,): (i64,) = connection().await.query("SELECT $1 + 0").bind(1_i64).fetch_one().await.unwrap();
        assert_eq!((one, idle()), (1, 1), "a read");
        let mut tx = connection().await.begin().await.unwrap();
        tx.query("CREATE TABLE marks (id INTEGER)").execute().await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(idle(), 1, "a commit");
        let mut tx = connection().await.begin().await.unwrap();
        assert_eq!(tx.query("INSERT INTO marks VALUES ($1), ($2)").bind(1_i64).bind(2_i64).execute().await.unwrap(), 2);
        tx.query("no SQL").execute().await.unwrap_err();
        tx.rollback().await.unwrap();
        assert_eq!(idle(), 1, "a rollback after an error");
        let rows: Vec<(i64,)> = connection().await.query("SELECT id FROM marks").fetch_all().await.unwrap();
        assert_eq!(rows, [], "the rollback undid the insert");

        connection().await.query("no SQL").execute().await.unwrap_err();
        assert_eq!(idle(), 0, "an error");
        let row = connection().await.query("SELECT 'no number'").fetch_one::<(i64,)>().await;
        assert!(row.is_err() && idle() == 0, "a column of another type");
        connection().await.close();
        assert_eq!(idle(), 0, "closed on purpose");
        let mut tx = connection().await.begin().await.unwrap();
        tx.query("SELECT 1").execute().await.unwrap();
        drop(tx);
        assert_eq!(idle(), 0, "a transaction without an end");
    }

    #[tokio::test]
    async fn a_cancelled_statement_closes_its_connection() {
        let pool = Connections::new(SqliteConnectOptions::new().in_memory(true), 1, Duration::from_secs(1));
        let mut connection = Connection::from(pool.acquire().await.unwrap());
        let endless =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT MAX(i) FROM n";
        let counting = connection.query(endless).fetch_one::<(i64,)>();
        tokio::time::timeout(Duration::ZERO, counting).await.unwrap_err();
        drop(connection);
        assert_eq!(pool.count(), (0, 0));
    }
}
