//! One suite, two databases: `SIGNET_TEST_DATABASE` says which. `scripts/test` runs it on both.
//!
//! Every test has a service and a database of its own, started as `main` starts them, with the one clock in its hand.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::cast_precision_loss,
    reason = "a test that cannot go on has failed, and tables are long"
)]

mod api;
mod cli;
mod documents;
mod interop;
mod resilience;
mod storage;
mod support;
