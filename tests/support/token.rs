//! Tokens as an attacker makes them, with or without the key.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

/// A decoded token.
pub struct Parts {
    pub header: Value,
    pub claims: Value,
}

pub fn take_apart(token: &str) -> Parts {
    let part = |number: usize| {
        let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(number).unwrap()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    Parts { header: part(0), claims: part(1) }
}

impl Parts {
    /// The token again, signed with HMAC-SHA256 under `key`.
    pub fn sign(&self, key: &str) -> String {
        sign_text(&self.header.to_string(), &self.claims.to_string(), key)
    }
}

/// Signs texts that need not be JSON.
pub fn sign_text(header: &str, claims: &str, key: &str) -> String {
    sign_with(hmac::HMAC_SHA256, header, claims, key.as_bytes())
}

pub fn sign_with(algorithm: hmac::Algorithm, header: &str, claims: &str, key: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(algorithm, key), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}
