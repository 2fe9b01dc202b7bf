//! Logs a recurring failure only once, and its end once.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something is failing now.
#[derive(Debug, Default)]
pub struct LogOnce(AtomicBool);

impl LogOnce {
    /// Records a failure. Returns whether it is the first since the last success.
    pub fn fails(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    /// Records a success. Returns whether it is the first after a failure.
    pub fn recovers(&self) -> bool {
        // Reads first: successes are frequent, and a write would take the cache line from the other cores.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}
