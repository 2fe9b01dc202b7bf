//! What time it is. Asked at the edge only; everything below is handed the time.

use crate::domain::Timestamp;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// The only clock there is. `App::build` is handed one; everything below is handed the time.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's.
    System,
    /// One that a test sets, in seconds since 1970.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that may ask the machine")]
            Self::System => {
                let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX))
            }
            Self::Manual(seconds) => Timestamp(seconds.load(Ordering::SeqCst)),
        }
    }
}
