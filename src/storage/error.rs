//! What can go wrong with a database, in two words. The database's own text stays here: it may quote a row.

use super::postgres::{InRecovery, has_outdated_plan};
use sqlx::migrate::MigrateError;

/// Why the database did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// It is away, full, locked, or without our tables: nothing is wrong with the request, and it may come again.
    #[error("the database is unavailable ({0})")]
    Unavailable(String),
    /// It refused something that it should not have: a fault of ours.
    #[error("the database refused a statement ({0})")]
    Fault(String),
}

/// Sorts an error of sqlx, and says it without repeating the database's text.
pub(super) fn classify(error: &sqlx::Error) -> StorageError {
    use StorageError::{Fault, Unavailable};
    match error {
        sqlx::Error::PoolTimedOut => Unavailable("no connection in time".to_owned()),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Unavailable("the connections are closed".to_owned()),
        sqlx::Error::Io(error) => Unavailable(error.to_string()),
        // Of the certificate, not of a row.
        sqlx::Error::Tls(error) => Unavailable(format!("the TLS handshake failed: {error}")),
        sqlx::Error::Configuration(error) if error.is::<InRecovery>() => Unavailable(error.to_string()),
        sqlx::Error::Protocol(_) => Unavailable("the connection broke off".to_owned()),
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            match reason(&code) {
                Some(reason) => Unavailable(format!("{reason}, code {code}")),
                None => Fault(format!("code {code}")),
            }
        }
        sqlx::Error::ColumnDecode { index, .. } => Fault(format!("column {index} cannot be read")),
        sqlx::Error::Migrate(error) => match &**error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => classify(error),
            // The rest speaks of versions and checksums, not of rows.
            other => Fault(other.to_string()),
        },
        _ => Fault("sqlx".to_owned()),
    }
}

/// Why a database says that it cannot work now; `None` when it says that we are wrong.
fn reason(code: &str) -> Option<&'static str> {
    // SQLSTATE has five characters (PostgreSQL, appendix A), SQLite's codes are numbers of at most four digits.
    if code.len() == 5 {
        return match (&code[..2], code) {
            ("08", "08P01") => {
                Some("protocol violation; a pooler such as PgBouncer may have refused a start-up parameter")
            }
            ("08", _) => Some("connection lost"),
            ("26" | "42", "26000" | "42P05") => Some("a pooler pools by transaction; it must pool by session"),
            ("25", "25006") => Some("the database is read-only"),
            ("28", _) => Some("the database refused our name or password"),
            ("3D", _) => Some("there is no such database"),
            ("40", _) => Some("too many conflicts"),
            ("42", "42P01" | "42703") => Some("Signet's tables are missing or old: run `signet migrate`"),
            ("42", "42501") => Some("our role lacks rights on Signet's tables"),
            ("53", _) => Some("the database is out of memory, disk or connections"),
            ("55", _) => Some("locked"),
            ("57", _) => Some("the database is shutting down or starting"),
            ("58", _) => Some("the database's disk fails"),
            _ => None,
        };
    }
    // The low byte is the primary code (sqlite.org/rescode.html).
    match code.parse::<u32>().ok()? & 0xff {
        5 | 6 => Some("the file is locked by another program"),
        8 => Some("the file is read-only"),
        10 => Some("the disk fails"),
        13 => Some("the disk is full"),
        14 => Some("the file cannot be opened"),
        _ => None,
    }
}

/// Whether the same may succeed if it is tried again: serialisation failure, deadlock, busy, an outdated plan.
pub(super) fn is_worth_a_retry(error: &sqlx::Error) -> bool {
    if has_outdated_plan(error) {
        return true;
    }
    let sqlx::Error::Database(error) = error else { return false };
    matches!(error.code().as_deref(), Some("40001" | "40P01" | "5" | "261" | "517" | "773"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_cannot_is_told_from_one_that_will_not() {
        for code in [
            "08006", "08P01", "26000", "42P05", "25006", "28P01", "3D000", "40001", "42P01", "42501", "53300", "55P03",
            "57P01", "58030", "5", "13", "2570", "14",
        ] {
            assert!(reason(code).is_some(), "{code}");
        }
        for code in ["23505", "42601", "22021", "25001", "1", "19", "2067", "", "x"] {
            assert!(reason(code).is_none(), "{code}");
        }
    }
}
