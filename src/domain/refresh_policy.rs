//! Judges a refresh token by its generation: current, a retry, a slow second tab, or a stolen copy.
//!
//! With rotation, each refresh increments the session's generation and returns a token of the new one. Client A
//! refreshes with generation 4 and loses the reply. It retries: within `jwt.refresh_grace` it gets the pair of
//! generation 5 again. If a thief B holds a copy of the token of generation 4 and sends it after the grace period, the
//! session ends for both.

use super::{Seconds, SessionState, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshVerdict {
    /// The newest generation.
    Current,
    /// The previous generation, within the grace period: a retry after a lost reply, or a second tab.
    Retry,
    /// An older generation, moments after the last rotation: a slow second tab, which has a newer token by now.
    Superseded,
    /// Used before, and too long ago for a retry: a copy.
    Reused,
    /// A generation that the session has not reached: the token is from another database.
    NeverIssued,
}

/// Within this time after a rotation, a token that is two or more generations old counts as sent by a slow client, not
/// by a thief.
const SUPERSEDED_GRACE: Seconds = Seconds(10);

impl SessionState {
    /// Judges a refresh token of `generation`. With a grace period of 0 s every token works once.
    pub fn judge_refresh(&self, generation: i64, grace: Seconds, now: Timestamp) -> RefreshVerdict {
        let behind = self.generation.saturating_sub(generation);
        // The clocks of replicas differ: a rotation in the future counts as one at `now`.
        let age = (now - self.rotated_at).max(Seconds(0));
        match behind {
            0 => RefreshVerdict::Current,
            ..0 => RefreshVerdict::NeverIssued,
            1 if age < grace => RefreshVerdict::Retry,
            2.. if age < grace.min(SUPERSEDED_GRACE) => RefreshVerdict::Superseded,
            _ => RefreshVerdict::Reused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_is_judged_by_its_generation_and_age() {
        use RefreshVerdict::{Current, NeverIssued, Retry, Reused, Superseded};
        let at = Timestamp(1000);
        let state =
            SessionState { generation: 5, rotated_at: at, last_used_at: at, expires_at: at, absolute_expires_at: at };
        let rows = [
            // generation, grace, age, verdict
            (5, 30, 0, Current),
            (5, 30, 1_000_000, Current),
            (5, 0, 0, Current),
            (4, 30, 0, Retry),
            (4, 30, 29, Retry),
            (4, 30, 30, Reused),
            (4, 30, 31, Reused),
            (4, 30, -5, Retry),
            (4, 0, 0, Reused),
            (4, 86_400, 86_399, Retry),
            (4, 86_400, 86_400, Reused),
            (3, 30, 0, Superseded),
            (3, 30, 9, Superseded),
            (3, 30, 10, Reused),
            (3, 30, 29, Reused),
            (3, 5, 4, Superseded),
            (3, 5, 5, Reused),
            (3, 0, 0, Reused),
            (0, 30, 0, Superseded),
            (0, 30, 10, Reused),
            (-1, 30, 10, Reused),
            (6, 30, 0, NeverIssued),
            (i64::MAX, 30, 0, NeverIssued),
            (i64::MIN, 30, 100, Reused),
        ];
        for (generation, grace, age, verdict) in rows {
            let judged = state.judge_refresh(generation, Seconds(grace), at + Seconds(age));
            assert_eq!(judged, verdict, "generation {generation}, grace {grace} s, age {age} s");
        }
    }
}
