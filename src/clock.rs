//! The clock. Handlers and jobs read it and pass the time to the functions that they call.

use crate::domain::Timestamp;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// The only clock, passed to `App::build`.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The clock of this machine.
    System,
    /// A clock that a test sets, in seconds since the Unix epoch.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the only place that reads the clock of this machine")]
            Self::System => {
                let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX))
            }
            Self::Manual(seconds) => Timestamp(seconds.load(Ordering::SeqCst)),
        }
    }
}
