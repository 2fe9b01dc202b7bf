//! The migrations that create the tables. A migration only adds to the schema; a later release removes what it made
//! superfluous, so that two versions can serve at the same time.

use super::{Storage, StorageError, error::classify, pool::Pool};
use crate::domain::{Email, UserId, Username};
use sqlx::{
    Connection, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// A migration: its number, its name, its SQL for PostgreSQL and its SQL for SQLite. Both folders have the same file names.
macro_rules! migration {
    ($number:literal, $name:literal, $file:literal) => {
        (
            $number,
            $name,
            include_str!(concat!("../../migrations/postgres/", $file)),
            include_str!(concat!("../../migrations/sqlite/", $file)),
        )
    };
}

const MIGRATIONS: &[(i64, &str, &str, &str)] = &[
    migration!(1, "users and sessions", "0001_users_and_sessions.sql"),
    migration!(2, "revocations", "0002_revocations.sql"),
    migration!(3, "order of sessions", "0003_order_of_sessions.sql"),
    migration!(4, "claims", "0004_claims.sql"),
    // No query uses this table: key states follow from file names. Replicas of the previous version still write to it
    // during an update; the release after this one drops it.
    migration!(5, "published keys", "0005_published_keys.sql"),
    migration!(6, "email keys", "0006_email_keys.sql"),
    migration!(7, "sign in failures", "0007_sign_in_failures.sql"),
    migration!(8, "known networks", "0008_known_networks.sql"),
    migration!(9, "audit", "0009_audit.sql"),
    migration!(10, "outbox", "0010_outbox.sql"),
    migration!(11, "sessions by network", "0011_sessions_by_network.sql"),
    migration!(12, "clients and api keys", "0012_clients_and_api_keys.sql"),
];

/// The warning about a user that [`Storage::migrate`] returns.
pub const NAME_CONFLICT: &str = "the e-mail or username of this user counts as the same as another user's; this user \
     can sign in with the e-mail exactly as it is stored, but not with the username; delete one of the two, then run \
     `signet migrate`";

impl Storage {
    /// Brings the tables up to date. An advisory lock of PostgreSQL lets replicas start at the same time. Returns the
    /// users that cannot sign in with their e-mail or username, because another user's counts as the same.
    ///
    /// # Errors
    /// When the database is unavailable, or has tables that this program did not create.
    pub async fn migrate(&self) -> Result<Vec<UserId>, StorageError> {
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
            // SQLite has no such lock: a second process waits for the one transaction in which the first runs all
            // migrations.
            Pool::Sqlite { write, .. } => {
                let in_one_transaction = async {
                    let mut pooled = write.acquire().await?;
                    let mut tx = pooled.connection()?.begin_with("BEGIN IMMEDIATE".into_sql_str()).await?;
                    migrator.run(&mut *tx).await?;
                    tx.commit().await?;
                    pooled.give_back();
                    Ok(())
                };
                in_one_transaction.await
            }
        };
        migrated.map_err(|error| classify(&error.into()))?;
        self.fold_names().await
    }

    /// Sets the keys of the e-mail and username of every user that a version before migration 6 created, if they may
    /// differ from those that it stored. If another user has the key of the e-mail already, the later user gets that
    /// key followed by a space and its id, and the next call tries again. Returns these users, and those whose username
    /// key another user has.
    pub async fn fold_names(&self) -> Result<Vec<UserId>, StorageError> {
        // The condition is that of the index `users_to_fold`, which contains only these users.
        const TO_FOLD: &str = r"
            SELECT id, email, username
            FROM users
            WHERE (email_key IS NULL AND (octet_length(email) <> length(email)
                    OR octet_length(username) <> length(username) OR replace(email, 'xn--', '') <> email)
                OR replace(email_key, ' ', '') <> email_key)
                AND id > $1
            ORDER BY id
            LIMIT 500";
        const EMAIL: &str = "UPDATE users SET email_key = $2 WHERE id = $1";
        const USERNAME: &str = "UPDATE users SET username_key = $2 WHERE id = $1";
        let (mut after, mut conflicts) = (0, Vec::new());
        loop {
            let users: Vec<(i64, String, String)> = self.read_all(TO_FOLD, |query| query.bind(after)).await?;
            let Some((last, ..)) = users.last() else { return Ok(conflicts) };
            after = *last;
            for (id, email, username) in users {
                let (email_key, username_key) = (Email::key_of(&email), Username::key_of(&username));
                let has_username = self.set_key(USERNAME, id, &username_key).await?;
                if !has_username && email_key == email {
                    // The e-mail needs no key, and without one the next call finds this user again.
                    conflicts.push(UserId(id));
                    continue;
                }
                let has_email = self.set_key(EMAIL, id, &email_key).await?;
                if !has_email {
                    self.set_key(EMAIL, id, &format!("{email_key} {id}")).await?;
                }
                if !(has_email && has_username) {
                    conflicts.push(UserId(id));
                }
            }
        }
    }

    /// Sets one key of a user; `false` when another user has it.
    async fn set_key(&self, sql: &'static str, id: i64, key: &str) -> Result<bool, StorageError> {
        self.write(|| async {
            let mut tx = self.begin().await?;
            match tx.query(sql).bind(id).bind(key).execute().await {
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
    fn every_migration_is_listed_and_exists_for_both_databases() {
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
