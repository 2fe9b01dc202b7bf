//! The migrations that create the tables. A migration only expands; a later release removes what it made superfluous, so
//! that two versions can serve at once.

use super::{Storage, StorageError, error::classify, pool::Pool, users::email_key};
use crate::domain::{Email, Username};
use sqlx::{
    Connection, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// Number, name, and the text for each database: the same file names in both folders.
const MIGRATIONS: &[(i64, &str, &str, &str)] = &[
    (
        1,
        "users and sessions",
        include_str!("../../migrations/postgres/0001_users_and_sessions.sql"),
        include_str!("../../migrations/sqlite/0001_users_and_sessions.sql"),
    ),
    (
        2,
        "revocations",
        include_str!("../../migrations/postgres/0002_revocations.sql"),
        include_str!("../../migrations/sqlite/0002_revocations.sql"),
    ),
    (
        3,
        "order of sessions",
        include_str!("../../migrations/postgres/0003_order_of_sessions.sql"),
        include_str!("../../migrations/sqlite/0003_order_of_sessions.sql"),
    ),
    (
        4,
        "claims",
        include_str!("../../migrations/postgres/0004_claims.sql"),
        include_str!("../../migrations/sqlite/0004_claims.sql"),
    ),
    (
        5,
        "published keys",
        include_str!("../../migrations/postgres/0005_published_keys.sql"),
        include_str!("../../migrations/sqlite/0005_published_keys.sql"),
    ),
    (
        6,
        "email keys",
        include_str!("../../migrations/postgres/0006_email_keys.sql"),
        include_str!("../../migrations/sqlite/0006_email_keys.sql"),
    ),
];

impl Storage {
    /// Brings the tables up to date. PostgreSQL's advisory lock lets replicas start at once.
    ///
    /// # Errors
    /// When the database is away, or holds tables that this program did not make.
    pub async fn migrate(&self) -> Result<(), StorageError> {
        let migrator = self.migrator();
        // No deadline: a large table takes time, and another replica may be migrating.
        let migrated = match &self.pool {
            // A connection outside the pool, closed afterwards: PostgreSQL then releases the lock whatever happened.
            Pool::Postgres(connections) => match connections.open().await {
                Ok(mut connection) => {
                    let migrated = migrator.run(&mut connection).await;
                    let _ = connection.close().await;
                    migrated
                }
                Err(error) => Err(error.into()),
            },
            // SQLite has no such lock: a second process waits for the one transaction in which the first runs all.
            Pool::Sqlite { write, .. } => {
                let in_one_transaction = async {
                    let mut lent = write.acquire().await?;
                    let mut tx = lent.connection()?.begin_with("BEGIN IMMEDIATE".into_sql_str()).await?;
                    migrator.run(&mut *tx).await?;
                    tx.commit().await?;
                    lent.give_back();
                    Ok(())
                };
                in_one_transaction.await
            }
        };
        migrated.map_err(|error| classify(&error.into()))?;
        self.fold_names().await
    }

    /// Sets the keys of the e-mail and username of every user that migration 6 marked. Where two accounts differ only in
    /// letter case as Unicode defines it, the later one keeps its row and can no longer sign in; the log says so.
    async fn fold_names(&self) -> Result<(), StorageError> {
        const MARKED: &str = concat!(
            r"
            SELECT id, email, username
            FROM users
            WHERE ",
            email_key!(),
            " >= ' ' AND ",
            email_key!(),
            " < '!' ORDER BY id LIMIT 500"
        );
        loop {
            let users: Vec<(i64, String, String)> =
                self.read(|| async { self.connection().await?.query(MARKED).fetch_all().await }).await?;
            if users.is_empty() {
                return Ok(());
            }
            for (id, email, username) in users {
                let (email, username) = (Email::stored(email), Username::stored(username));
                if !self.set_keys(id, email.own_key(), Some(username.key())).await? {
                    tracing::error!(
                        user.id = id,
                        "another user has this one's e-mail or username but for letter case; this one can no longer sign \
                         in by it: delete one of the two"
                    );
                    self.set_keys(id, None, None).await?;
                }
            }
        }
    }

    /// Sets the keys of a user; `false` when another user has one of them.
    async fn set_keys(
        &self,
        id: i64,
        email_key: Option<&str>,
        username_key: Option<&str>,
    ) -> Result<bool, StorageError> {
        const SQL: &str = r"
            UPDATE users
            SET email_key = $2, username_key = COALESCE($3, username_key)
            WHERE id = $1";
        self.write(|| async {
            let mut tx = self.begin().await?;
            match tx.query(SQL).bind(id).bind(email_key).bind(username_key).execute().await {
                Ok(_) => tx.commit().await.map(|()| true),
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => tx.rollback().await.map(|()| false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Whether every migration that this program knows has run. A database with later migrations is fine.
    pub async fn is_migrated(&self) -> Result<bool, StorageError> {
        const SQL: &str = "SELECT COUNT(*) FROM _sqlx_migrations WHERE success AND version <= $1";
        let newest = MIGRATIONS.last().map_or(0, |migration| migration.0);
        let (applied,): (i64,) =
            self.run(|| async { self.connection().await?.query(SQL).bind(newest).fetch_one().await }).await?;
        Ok(usize::try_from(applied) == Ok(MIGRATIONS.len()))
    }

    fn migrator(&self) -> Migrator {
        let migrations = MIGRATIONS.iter().map(|(version, name, postgres, sqlite)| {
            let sql = match self.pool {
                Pool::Postgres(_) => postgres,
                Pool::Sqlite { .. } => sqlite,
            };
            Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
        });
        let mut migrator = Migrator::with_migrations(migrations.collect());
        migrator.set_ignore_missing(true);
        migrator
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn every_file_is_listed_and_both_folders_have_the_same_names() {
        let names = |folder: &str| -> BTreeSet<String> {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        assert_eq!(names("postgres"), names("sqlite"));
        let listed =
            MIGRATIONS.iter().map(|(version, name, ..)| format!("{version:04}_{}.sql", name.replace(' ', "_")));
        assert_eq!(listed.collect::<BTreeSet<_>>(), names("sqlite"));
    }
}
