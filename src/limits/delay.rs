//! How long an account refuses attempts after failures in a row.

use crate::{
    domain::{MAX_CLOCK_SKEW, Seconds, Timestamp},
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
        let elapsed = now - failures.last_at;
        // After a clock was set back, one attempt is allowed: if it fails, the failure gets the right time. Otherwise the
        // account would be locked until the clock has caught up.
        if elapsed >= FAILURES_LAST || elapsed.0 < -MAX_CLOCK_SKEW.0 {
            return None;
        }
        let delay = (2_i64 << beyond.min(40)).min(self.max_delay.0);
        Some(Seconds(delay - elapsed.0.max(0))).filter(|wait| wait.0 > 0)
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
        assert_eq!((wait(6, 3), wait(6, 4)), (Some(1), None));
        assert_eq!((wait(6, -60), wait(6, -61)), (Some(4), None), "a clock that was set back locks no account");
        assert_eq!(wait(100, 24 * 60 * 60), None);
    }
}
