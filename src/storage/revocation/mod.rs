//! The path of a revocation, from the end of a session to the 401 on every replica:
//!
//! 1. A session ends (sign-out, new password, deactivation, reused refresh token), or a single token is revoked.
//! 2. The transaction that ends it is an [`Ending`]. It first increments the feed's counter, which locks the counter.
//! 3. [`Ending::commit`] inserts a row `(seq, claim, value, ended_at)` for each ended `sid` or `jti` and commits. No
//!    other function commits an `Ending`, so every revocation has its row, and `seq` follows the order of commits.
//! 4. After the commit it adds them to the [`RevokedSet`] of this replica, before the client gets its reply.
//! 5. The [`Follower`] of every other replica polls the rows after its cursor (`revocation.poll_interval`) and adds them
//!    to its own set.
//! 6. Each request with an access token looks up `sid` and `jti` in the set: [`Storage::trust`](super::Storage::trust). A
//!    hit is a 401; a replica that could not read the feed for `revocation.max_staleness` answers 503.
//! 7. When every access token concerned has expired, the set forgets the revocation and the purge deletes its row.

mod feed;
mod publish;
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
/// The set keeps a revocation for one token lifetime after `ended_at`. If the clock of this replica is slow, the session may
/// have a token that another replica issued after `now`; so `ended_at` is at least the last use, which is exact to a minute.
pub(super) fn revocations_at(now: Timestamp, ended: Vec<EndedRow>) -> Vec<Revocation> {
    let ended_at = |last_used_at: i64| now.max(Timestamp(last_used_at) + SessionState::USE_IS_EXACT_TO);
    ended.into_iter().map(|(id, last_used_at)| Revocation { id, ended_at: ended_at(last_used_at) }).collect()
}
