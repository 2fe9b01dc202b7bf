//! The tables, and how they came to be. Migrations only expand; what they make superfluous goes a release later,
//! so that two versions can serve at once.

use super::{Pool, Storage, StorageError, error::classify, users::email_key, work::on};
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
        // No deadline: a large table may take its time, and another replica may be at it.
        let migrated = match &self.pool {
            // A connection of its own, closed afterwards: the lock goes with it, whatever happens.
            Pool::Postgres(connections) => match connections.open().await {
                Ok(mut connection) => {
                    let migrated = migrator.run(&mut connection).await;
                    let _ = connection.close().await;
                    migrated
                }
                Err(error) => Err(error.into()),
            },
            // SQLite has no such lock: whoever is second waits for the one transaction in which the first does it all.
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

    /// Gives every user whom migration 6 has marked the keys that e-mail and username have now. Where two accounts differ in
    /// letter case alone, as far as Unicode is concerned, the later one keeps its row and loses its way in: the log says so.
    async fn fold_names(&self) -> Result<(), StorageError> {
        const MARKED: &str = concat!(
            "SELECT id, email, username FROM users WHERE ",
            email_key!(),
            " >= ' ' AND ",
            email_key!(),
            " < '!' ORDER BY id LIMIT 500"
        );
        const FOLD: &str = "UPDATE users SET email_key = $2, username_key = COALESCE($3, username_key) WHERE id = $1";
        loop {
            let users: Vec<(i64, String, String)> =
                on!(read self, |connection| sqlx::query_as(MARKED).fetch_all(connection).await).await?;
            if users.is_empty() {
                return Ok(());
            }
            for (id, email, username) in users {
                let (email, username) = (Email::stored(email), Username::stored(username));
                let fold = async |email_key: Option<&str>, username_key: Option<&str>| {
                    on!(write self, |tx| {
                        let fold = sqlx::query(FOLD).bind(id).bind(email_key).bind(username_key);
                        match fold.execute(&mut *tx).await {
                            Ok(_) => true,
                            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Ok(false),
                            Err(error) => return Err(error),
                        }
                    })
                    .await
                };
                if !fold(email.own_key(), Some(username.key())).await? {
                    tracing::error!(
                        user.id = id,
                        "another user has this one's e-mail or username but for letter case; this one can no longer sign \
                         in by it: delete one of the two"
                    );
                    fold(None, None).await?;
                }
            }
        }
    }

    /// Whether every migration that this program knows has run. A database that is ahead is welcome.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn is_migrated(&self) -> Result<bool, StorageError> {
        const SQL: &str = "SELECT COUNT(*) FROM _sqlx_migrations WHERE success AND version <= $1";
        let newest = MIGRATIONS.last().map_or(0, |migration| migration.0);
        let run: Result<i64, _> =
            on!(ask self, |connection| sqlx::query_scalar(SQL).bind(newest).fetch_one(connection).await).await;
        Ok(usize::try_from(run?) == Ok(MIGRATIONS.len()))
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
