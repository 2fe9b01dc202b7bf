//! Shared by the tests: a database, a service on it, a client, and processes.

pub mod actor;
pub mod app;
pub mod database;
pub mod endpoint;
pub mod keys;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod token;

pub use actor::{Actor, Reply};
pub use app::TestApp;
pub use database::TestDatabase;
pub use endpoint::{Endpoint, SignedIn};

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// The value of `SIGNET_TEST_SEED`.
pub fn seed() -> Option<u64> {
    std::env::var("SIGNET_TEST_SEED").ok().map(|seed| seed.parse().unwrap())
}

/// A generator of test values that depend on the seed only.
pub fn runner(seed: u64, mut config: Config) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    config.failure_persistence = None;
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// A password that the default rules accept.
pub const PASSWORD: &str = "correct horse battery";

/// An e-mail address that is unique in this run.
pub fn email() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("user{}@example.com", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Fails the test if `work` takes longer than `seconds`.
pub async fn within<T>(seconds: u64, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), work)
        .await
        .unwrap_or_else(|_| panic!("took longer than {seconds} s"))
}

/// Repeats `ask` until it returns `expected`, for at most ten seconds; returns how long that took.
pub async fn eventually<T: PartialEq>(expected: T, ask: impl AsyncFn() -> T) -> Duration {
    eventually_within(10, expected, ask).await
}

pub async fn eventually_within<T: PartialEq>(seconds: u64, expected: T, ask: impl AsyncFn() -> T) -> Duration {
    let began = Instant::now();
    within(seconds, async {
        while ask().await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    began.elapsed()
}

/// Checks the reply to each row of a table, as [`all`] does.
pub async fn all_replies<T>(
    table: &str,
    rows: impl IntoIterator<Item = T>,
    name: impl Fn(&T) -> String,
    fault: impl AsyncFn(&T) -> Option<String>,
) {
    let mut checked = Vec::new();
    for row in rows {
        checked.push((name(&row).chars().take(90).collect::<String>(), fault(&row).await));
    }
    all(table, &checked, |(name, _)| name.clone(), |(_, fault)| fault.clone());
}

/// Checks every row of a table, prints the number of rows, and fails with the name and fault of each bad row.
pub fn all<T>(table: &str, rows: &[T], name: impl Fn(&T) -> String, fault: impl Fn(&T) -> Option<String>) {
    let faults: Vec<String> =
        rows.iter().filter_map(|row| fault(row).map(|fault| format!("{}: {fault}", name(row)))).collect();
    println!("{table}: {} cases", rows.len());
    assert!(faults.is_empty(), "{table}: {} of {} cases failed:\n{}", faults.len(), rows.len(), faults.join("\n"));
}
