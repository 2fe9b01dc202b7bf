use super::{Algorithm, Timestamp};

/// Since when a key that signs access tokens has been in a key set that others read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub kid: String,
    pub algorithm: Algorithm,
    pub since: Timestamp,
}

impl Publication {
    /// Whether it is of this key: an RSA key has one `kid` with several algorithms.
    pub fn is_of(&self, kid: &str, algorithm: Algorithm) -> bool {
        self.kid == kid && self.algorithm == algorithm
    }
}
