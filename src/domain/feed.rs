//! The feed of revocations, as other services read it.

use super::Timestamp;
use uuid::Uuid;

/// A page of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPage {
    pub feed: Uuid,
    pub revocations: Vec<FeedRow>,
    /// The `after` of the next page.
    pub next: i64,
}

/// A revocation of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRow {
    pub seq: i64,
    /// `sid` or `jti`.
    pub claim: String,
    /// The value of that claim.
    pub value: String,
    /// The time at which every access token that it revokes has expired.
    pub expires_at: Timestamp,
}
