use super::{Algorithm, Seconds, Timestamp};

/// A key that signs access tokens and is, or was, in a key set that others read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub kid: String,
    pub algorithm: Algorithm,
    /// Since when.
    pub since: Timestamp,
    /// When it was there last, as far as is known.
    pub seen_at: Timestamp,
}

impl Publication {
    /// For how long whoever told of a key is taken to have it still: they do so every minute.
    pub const STILL: Seconds = Seconds(120);

    /// Whether it is of this key: an RSA key has one `kid` with several algorithms.
    pub fn is_of(&self, kid: &str, algorithm: Algorithm) -> bool {
        self.kid == kid && self.algorithm == algorithm
    }
}
