//! What tests share: a database, a service on it, and somebody who talks to it.

pub mod actor;
pub mod app;
pub mod database;
pub mod keys;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod token;

pub use actor::{Actor, Reply};
pub use app::TestApp;
pub use database::TestDatabase;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// A password that the default rules take.
pub const PASSWORD: &str = "correct horse battery";

/// An e-mail that nobody else in this run has.
pub fn email() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("user{}@example.com", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What must be over by then.
pub async fn within<T>(seconds: u64, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), work).await.unwrap_or_else(|_| panic!("not within {seconds} s"))
}

/// Asks until the answer is the awaited one, for at most ten seconds; how long that took.
pub async fn eventually<T: PartialEq>(awaited: T, ask: impl AsyncFn() -> T) -> Duration {
    let began = Instant::now();
    within(10, async {
        while ask().await != awaited {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    began.elapsed()
}

/// Runs every row of a table, says how many there were, and names each that fails.
pub fn all<T>(table: &str, rows: &[T], name: impl Fn(&T) -> String, fault: impl Fn(&T) -> Option<String>) {
    let faults: Vec<String> =
        rows.iter().filter_map(|row| fault(row).map(|fault| format!("{}: {fault}", name(row)))).collect();
    println!("{table}: {} cases", rows.len());
    assert!(faults.is_empty(), "{table}: {} of {} cases failed:\n{}", faults.len(), rows.len(), faults.join("\n"));
}
