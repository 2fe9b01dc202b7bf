//! What tests share: a database, a service on it, and somebody who talks to it.

pub mod actor;
pub mod app;
pub mod database;
pub mod proxy;
pub mod token;

pub use actor::{Actor, Reply};
pub use app::TestApp;
pub use database::TestDatabase;

use std::sync::atomic::{AtomicU64, Ordering};

/// A password that the default rules take.
pub const PASSWORD: &str = "correct horse battery";

/// An e-mail that nobody else in this run has.
pub fn email() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("user{}@example.com", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs every row of a table, says how many there were, and names each that fails.
pub fn all<T>(table: &str, rows: &[T], name: impl Fn(&T) -> String, fault: impl Fn(&T) -> Option<String>) {
    let faults: Vec<String> =
        rows.iter().filter_map(|row| fault(row).map(|fault| format!("{}: {fault}", name(row)))).collect();
    println!("{table}: {} cases", rows.len());
    assert!(faults.is_empty(), "{table}: {} of {} cases failed:\n{}", faults.len(), rows.len(), faults.join("\n"));
}
