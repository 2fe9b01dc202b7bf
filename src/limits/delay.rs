//! How long an account refuses attempts after failures in a row.

use crate::{
    domain::{Seconds, Timestamp},
    storage::{FAILURES_LAST, Failures},
};

/// `rate_limit.account_failures` and `rate_limit.account_delay_max`.
#[derive(Debug, Clone, Copy)]
pub struct DelayPolicy {
    pub free_failures: u32,
    pub max_delay: Seconds,
}

impl DelayPolicy {
    /// How long the next attempt has to wait at `now`; `None` if it need not. The wait doubles with each failure beyond the
    /// free ones: 2 s, 4 s, 8 s, up to the maximum.
    pub fn wait(self, failures: Failures, now: Timestamp) -> Option<Seconds> {
        let beyond = failures.count.checked_sub(self.free_failures)?;
        // A clock that was set back must not make the wait longer than the delay.
        let elapsed = (now - failures.last_at).0.max(0);
        if elapsed >= FAILURES_LAST.0 {
            return None;
        }
        let delay = (2_i64 << beyond.min(40)).min(self.max_delay.0);
        Some(Seconds(delay - elapsed)).filter(|wait| wait.0 > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_with_each_failure_up_to_the_maximum() {
        let policy = DelayPolicy { free_failures: 5, max_delay: Seconds(900) };
        let wait = |count, elapsed: i64| {
            policy.wait(Failures { count, last_at: Timestamp(1000) }, Timestamp(1000 + elapsed)).map(|wait| wait.0)
        };
        let waits = [0, 4, 5, 6, 7, 13, 14, 4_000_000_000].map(|count| wait(count, 0));
        assert_eq!(waits, [None, None, Some(2), Some(4), Some(8), Some(512), Some(900), Some(900)]);
        assert_eq!((wait(6, 3), wait(6, 4), wait(6, -500)), (Some(1), None, Some(4)));
        assert_eq!(wait(100, 24 * 60 * 60), None);
    }
}
