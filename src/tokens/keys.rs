//! The keys of access and refresh tokens. Each kind has its own keys, `typ` and claims (RFC 8725 §3.12).

use crate::{
    domain::{Algorithm, Seconds, Timestamp},
    keys::{KeyFault, KeyRing, SigningKey, TokenKey},
};
use aws_lc_rs::hmac;
use secrecy::{ExposeSecret, SecretString};
use std::iter;

#[derive(Clone)]
pub struct Keys {
    pub(super) access: KeyRing,
    pub(super) refresh: RefreshKeys,
}

impl Keys {
    /// # Errors
    /// No key of access tokens is active, or one of them is also a key of refresh tokens.
    pub fn new(access: KeyRing, refresh: RefreshKeys, now: Timestamp) -> Result<Self, KeyFault> {
        access.check_active(now)?;
        let is_shared = |key: &&TokenKey| access.keys().any(|other| other.signing.kid() == key.signing.kid());
        if let Some(key) = refresh.verifying().find(is_shared) {
            return Err(KeyFault(format!(
                "the key {} of access tokens is also jwt.refresh_key or jwt.refresh_key_previous: a service that \
                 verifies access tokens with it could make refresh tokens",
                key.signing.kid()
            )));
        }
        Ok(Self { access, refresh })
    }

    fn verifying(&self, now: Timestamp, max_token_age: Seconds) -> impl Iterator<Item = &TokenKey> {
        self.access.verifying(now, max_token_age).chain(self.refresh.verifying())
    }

    /// The keys that `before` verifies with and `self` does not.
    fn removed_since<'a>(&self, before: &'a Self, now: Timestamp, max_token_age: Seconds) -> Vec<&'a TokenKey> {
        let is_removed = |key: &&TokenKey| !self.verifying(now, max_token_age).any(|mine| mine == *key);
        before.verifying(now, max_token_age).filter(is_removed).collect()
    }

    /// Logs what an operator should know about a change of keys.
    pub(super) fn log_changes(&self, before: &Self, now: Timestamp, max_token_age: Seconds) {
        for key in self.access.late_since(&before.access, now) {
            tracing::warn!(
                kid = key.signing.kid(),
                "a key was first seen after its activation: services that cache the key set may refuse its tokens for a \
                 minute"
            );
        }
        for key in self.removed_since(before, now, max_token_age) {
            let kind = if key.typ == RefreshKeys::TYP { "refresh" } else { "access" };
            tracing::warn!(
                kid = key.signing.kid(),
                "a key was removed: the {kind} tokens that it signed are now refused"
            );
        }
    }
}

#[derive(Clone)]
pub struct RefreshKeys {
    /// Signs and verifies.
    pub(super) current: TokenKey,
    /// Verifies only: the key before `current`, or the one that will replace it.
    previous: Option<TokenKey>,
    /// Derives the `jti` of a pair that a retry gets again, and the keys of [`Tokens::mac`](super::Tokens::mac).
    pub(super) derivation: hmac::Key,
}

impl RefreshKeys {
    const TYP: &str = "rt+jwt";

    pub fn new(current: &SecretString, previous: Option<&SecretString>) -> Result<Self, KeyFault> {
        let derivation = hmac::Key::new(hmac::HMAC_SHA256, current.expose_secret().as_bytes());
        let parse = |text| Ok::<_, KeyFault>(TokenKey::new(SigningKey::parse(text, Algorithm::Hs256)?, Self::TYP));
        Ok(Self { current: parse(current)?, previous: previous.map(parse).transpose()?, derivation })
    }

    pub(super) fn verifying(&self) -> impl Iterator<Item = &TokenKey> + Clone {
        iter::once(&self.current).chain(&self.previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Activation, generate};

    #[test]
    fn a_reload_reports_the_keys_that_no_longer_verify() {
        let secret = || generate(Algorithm::Hs256).unwrap();
        let text = generate(Algorithm::Rs256).unwrap();
        let access = |algorithm| (SigningKey::parse(&text, algorithm).unwrap(), Activation::ALWAYS);
        let other = || (SigningKey::parse(&secret(), Algorithm::Hs256).unwrap(), Activation::ALWAYS);
        let now = Timestamp(0);
        let keys = |access, current: &SecretString, previous: Option<&SecretString>| {
            let ring = KeyRing::new("at+jwt", vec![access]).unwrap();
            Keys::new(ring, RefreshKeys::new(current, previous).unwrap(), now).unwrap()
        };
        let (old, new) = (secret(), secret());
        let before = keys(access(Algorithm::Rs256), &old, None);
        let rows = vec![
            ("unchanged", keys(access(Algorithm::Rs256), &old, None), 0),
            ("another key", keys(other(), &old, None), 1),
            ("the same key with another algorithm", keys(access(Algorithm::Ps256), &old, None), 1),
            ("a refresh key that is still the previous one", keys(access(Algorithm::Rs256), &new, Some(&old)), 0),
            ("a refresh key without the previous one", keys(access(Algorithm::Rs256), &new, None), 1),
        ];
        for (name, after, removed) in rows {
            assert_eq!(after.removed_since(&before, now, Seconds(300)).len(), removed, "{name}");
        }
    }

    #[test]
    fn a_key_whose_tokens_have_ended_can_be_deleted() {
        let key = || SigningKey::parse(&generate(Algorithm::Es256).unwrap(), Algorithm::Es256).unwrap();
        let (old, new) = ((key(), Activation::ALWAYS), (key(), Activation::At(Timestamp(1000))));
        let refresh = RefreshKeys::new(&generate(Algorithm::Hs256).unwrap(), None).unwrap();
        let keys = |access| {
            let ring = KeyRing::new("at+jwt", access).unwrap();
            Keys::new(ring, refresh.clone(), Timestamp(1000)).unwrap()
        };
        let (before, after) = (keys(vec![old, new.clone()]), keys(vec![new]));
        for (now, removed) in [(1000, 1), (9000, 0)] {
            assert_eq!(after.removed_since(&before, Timestamp(now), Seconds(300)).len(), removed, "{now}");
        }
    }
}
