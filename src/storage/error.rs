//! The errors of a database. Its own text is never passed on: it may quote a row.

use super::pool::postgres::{InRecovery, has_outdated_plan};
use sqlx::migrate::MigrateError;

/// Why the database did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// It is unreachable, full, locked, or without Signet's tables: the request is fine and may be retried.
    #[error("the database is unavailable ({0})")]
    Unavailable(String),
    /// It refused a statement that it should accept: a bug in Signet.
    #[error("the database refused a statement ({0})")]
    Fault(String),
}

/// Classifies an error of sqlx, and words it without the database's text.
pub(super) fn classify(error: &sqlx::Error) -> StorageError {
    use StorageError::{Fault, Unavailable};
    match error {
        sqlx::Error::PoolTimedOut => Unavailable("no connection became free in time".to_owned()),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Unavailable("the connections are closed".to_owned()),
        sqlx::Error::Io(error) => Unavailable(error.to_string()),
        // The text is about the certificate, not about a row.
        sqlx::Error::Tls(error) => Unavailable(format!("the TLS handshake failed: {error}")),
        sqlx::Error::Configuration(error) if error.is::<InRecovery>() => Unavailable(error.to_string()),
        sqlx::Error::Protocol(_) => Unavailable("the connection was lost".to_owned()),
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
            // The other texts are about versions and checksums, not about rows.
            other => Fault(other.to_string()),
        },
        _ => Fault("sqlx".to_owned()),
    }
}

/// Why the database cannot work now; `None` when the code means that the statement is wrong.
fn reason(code: &str) -> Option<&'static str> {
    // SQLSTATE has five characters (PostgreSQL, appendix A), SQLite's codes are numbers of at most four digits.
    if code.len() == 5 {
        return match (&code[..2], code) {
            ("08", "08P01") => {
                Some("protocol violation; a pooler such as PgBouncer may have refused a start-up parameter")
            }
            ("08", _) => Some("connection lost"),
            ("26" | "42", "26000" | "42P05") => Some("the pooler does not use session pooling, which Signet needs"),
            ("25", "25006") => Some("the database is read-only"),
            ("28", _) => Some("the database refused the user name or password"),
            ("3D", _) => Some("there is no such database"),
            ("40", _) => Some("too many conflicts"),
            ("42", "42P01" | "42703") => Some("Signet's tables are missing or old: run `signet migrate`"),
            ("42", "42501") => Some("the database role lacks privileges on Signet's tables"),
            ("53", _) => Some("the database is out of memory, disk or connections"),
            ("55", _) => Some("locked"),
            ("57", _) => Some("the database is shutting down or starting"),
            ("58", _) => Some("the disk of the database fails"),
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

/// Whether a unit of work may succeed when it is tried again: serialisation failure, deadlock, busy, outdated plan.
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
    fn an_unavailable_database_is_distinguished_from_a_refused_statement() {
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
