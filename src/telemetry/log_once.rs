//! Logs a failure that repeats once, and once more when it is over.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something is failing now.
#[derive(Debug, Default)]
pub struct LogOnce(AtomicBool);

impl LogOnce {
    /// Notes a failure; whether it is the first since the last success.
    pub fn fails(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    /// Notes a success; whether it is the first after a failure.
    pub fn recovers(&self) -> bool {
        // Reading first: a success is frequent, and a write would take the cache line from the other cores.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}
