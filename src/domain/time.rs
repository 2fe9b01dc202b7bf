//! Time in whole seconds since 1970 in UTC, as in JWTs and in the database.

use std::{
    fmt,
    ops::{Add, Sub},
    time::{Duration, UNIX_EPOCH},
};

/// A length of time in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Seconds(pub i64);

/// How far the clocks of two replicas may differ.
pub const MAX_CLOCK_SKEW: Seconds = Seconds(60);

/// A time in seconds since 1970-01-01T00:00:00Z. Displayed as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Add<Seconds> for Timestamp {
    type Output = Self;
    fn add(self, length: Seconds) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

impl Sub<Seconds> for Timestamp {
    type Output = Self;
    fn sub(self, length: Seconds) -> Self {
        Self(self.0.saturating_sub(length.0))
    }
}

impl Sub for Timestamp {
    type Output = Seconds;
    fn sub(self, earlier: Self) -> Seconds {
        Seconds(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 3339 ends with the year 9999; a row that was edited by hand may be later.
        let since_1970 = Duration::from_secs(self.0.clamp(0, 253_402_300_799).unsigned_abs());
        write!(f, "{}", humantime::format_rfc3339_seconds(UNIX_EPOCH + since_1970))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_displayed_in_utc() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp(1_795_305_600).to_string(), "2026-11-22T00:00:00Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp(i64::MAX) + Seconds(1), Timestamp(i64::MAX));
        assert_eq!(Timestamp(i64::MIN) - Timestamp(1), Seconds(i64::MIN));
    }
}
