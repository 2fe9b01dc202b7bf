//! The content of verified tokens.

use super::{ClientId, Role, SessionId, Timestamp, UserId};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt;
use uuid::Uuid;

/// The `jti` of an access token: 128 bits, written as 22 characters of base64url.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId(pub Uuid);

impl TokenId {
    pub fn from_bits(bits: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bits))
    }

    /// Parses the one form in which a `jti` is written.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bits = [0; 18];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bits).ok()?;
        Some(Self(Uuid::from_slice(&bits[..length]).ok()?))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.as_bytes()))
    }
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    pub id: TokenId,
    pub subject: Subject,
}

/// The subject of an access token: a user or a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// `username` and `roles` are those of the time when the token was minted.
    User {
        id: UserId,
        session: SessionId,
        username: String,
        roles: Vec<Role>,
    },
    Client(ClientId),
}

impl AccessToken {
    /// The session or the API key whose end revokes the token; `None` for the token of a client.
    pub fn session(&self) -> Option<SessionId> {
        match &self.subject {
            Subject::User { session, .. } => Some(*session),
            Subject::Client(_) => None,
        }
    }
}

/// A refresh token. The session's row decides whether it can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshToken {
    pub user: UserId,
    pub session: SessionId,
    /// The number of rotations of the session when this token was minted.
    pub generation: i64,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_jti_has_one_spelling() {
        let jti = TokenId::from_bits([0xff; 16]);
        assert_eq!(jti.to_string(), "_____________________w");
        for text in [
            "",
            "____",
            "_____________________x",
            "/////////////////////w",
            "_____________________w==",
            &"_".repeat(24),
        ] {
            assert_eq!(TokenId::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_jti_survives_the_round_trip(bits in any::<[u8; 16]>()) {
            let jti = TokenId::from_bits(bits);
            prop_assert_eq!(TokenId::parse(&jti.to_string()), Some(jti));
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = TokenId::parse(&text);
        }
    }
}
