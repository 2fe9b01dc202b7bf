//! How a session or a token stops being accepted before its time:
//!
//! 1. A session ends: a sign-out, a new password, a deactivation, a reused refresh token. Or a single token is revoked.
//! 2. The transaction that ends it is an [`Ending`]. It first increments the one counter of the feed, which locks it.
//! 3. [`Ending::commit`] writes a row `(seq, claim, value, ended_at)` for each ended `sid` or `jti`, under that number.
//!    Nothing else commits such a transaction, so no end is without a row. Numbers follow the order of commits.
//! 4. After the commit it adds them to the [`RevokedSet`] of this replica, before the client is answered.
//! 5. Every other replica has a [`Follower`], which reads the rows after the last one that it knows, twice a second.
//!    It adds them to the `RevokedSet` of that replica.
//! 6. Every request with an access token looks its `sid` and `jti` up in the set, in memory: [`Storage::trust`](super::Storage::trust).
//!    A token that is found gets 401. A replica that could not read the feed for `revocation.max_staleness` answers 503.
//! 7. The set forgets a revocation, and the purge deletes its row, when no access token can still contain it.

mod feed;
mod set;

pub use feed::Follower;
pub(super) use feed::{Claim, EndSessions, Ending};
pub(super) use set::RevokedSet;
pub use set::Trust;

use crate::domain::{SessionState, Timestamp};
use uuid::Uuid;

/// An ended session (its `sid`) or a revoked token (its `jti`), and when that happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Revocation {
    pub(super) id: Uuid,
    pub(super) ended_at: Timestamp,
}

/// The columns `id` and `last_used_at` of a session that ended.
pub(super) type EndedRow = (Uuid, i64);

/// The revocations of sessions that ended at `now`.
///
/// A session whose last use is later than `now` ends at that use: where this replica's clock is behind, the access token
/// of that use would outlive a revocation that is dated by this clock.
pub(super) fn revocations_at(now: Timestamp, ended: Vec<EndedRow>) -> Vec<Revocation> {
    let ended_at = |last_used_at: i64| now.max(Timestamp(last_used_at) + SessionState::USE_IS_EXACT_TO);
    ended.into_iter().map(|(id, last_used_at)| Revocation { id, ended_at: ended_at(last_used_at) }).collect()
}
