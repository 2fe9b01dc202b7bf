//! One suite for two databases: `SIGNET_TEST_DATABASE` is `sqlite` (the default) or `postgres`; `scripts/test` runs both.
//!
//! Each test starts its own service, as `main` does, on its own database, and sets the clock of the service.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::cast_precision_loss,
    reason = "a test fails by panicking, and its tables of cases are long"
)]

mod api;
mod cli;
mod docs;
mod interop;
mod resilience;
mod storage;
mod support;
