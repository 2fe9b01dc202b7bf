//! Access and refresh tokens: minting, verification and keys.
//!
//! `mint` writes tokens and `verify` reads them; `keys` has the keys of both kinds. jsonwebtoken computes and checks the
//! signatures. Its `decode` is not used: it accepts `crit`, ignores `typ`, accepts a list for `iss`, rounds times that are
//! not integers, and reads the machine's clock.

mod keys;
mod mint;
mod strict_json;
mod verify;

pub use keys::{Keys, RefreshKeys};
pub use mint::{Grant, SigningFailed, is_registered};
pub use verify::{Expected, Refusal};

use crate::{
    domain::{LoginName, MailKind, Seconds, Timestamp, User, UserIdField},
    keys::{KeyFault, KeyRing},
};
use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use jsonwebtoken::jwk::JwkSet;
use std::sync::Arc;

/// The longest token that is minted or read, in bytes.
const MAX_LENGTH: usize = 8 * 1024;

/// The `client_id` of tokens that a sign-in returns (RFC 9068 §2.2).
const CLIENT_ID: &str = "signet";

/// The values of `token_type`.
#[derive(Debug, Clone)]
pub struct TokenNames {
    pub access: String,
    pub refresh: String,
}

/// The issuer of tokens, their audience and claims, and the lifetime of access tokens.
#[derive(Debug, Clone)]
pub struct Issuer {
    pub iss: String,
    /// The audience of Signet itself, and of tokens that are requested without an audience.
    pub aud: Option<String>,
    /// Further audiences that clients can ask for.
    pub audiences: Vec<String>,
    pub names: TokenNames,
    pub access_lifetime: Seconds,
    /// How long after its `exp` a token is still accepted: the clocks of issuer and verifier may differ.
    pub leeway: Seconds,
    /// The name of a claim that repeats the `jti`.
    pub jti_claim: String,
    /// The name of a claim that contains `user_id_field`, in addition to `sub`.
    pub user_id_claim: String,
    pub user_id_field: UserIdField,
}

impl Issuer {
    /// The audience of a token: `asked`, or `aud` if that is `None`.
    fn audience<'a>(&'a self, asked: Option<&'a str>) -> Result<Option<&'a str>, UnknownAudience> {
        let aud = asked.or(self.aud.as_deref());
        if self.has_audience(aud) { Ok(aud) } else { Err(UnknownAudience) }
    }

    fn has_audience(&self, aud: Option<&str>) -> bool {
        aud == self.aud.as_deref() || aud.is_some_and(|aud| self.audiences.iter().any(|known| known == aud))
    }

    /// How long after its `iat` an access token may be accepted.
    pub fn max_access_age(&self) -> Seconds {
        Seconds(self.access_lifetime.0.saturating_add(self.leeway.0))
    }
}

/// The audience is neither `jwt.audience` nor one of `jwt.audiences`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownAudience;

/// Mints and verifies both kinds of token.
pub struct Tokens {
    issuer: Issuer,
    /// Read by every request without a lock.
    keys: ArcSwap<Keys>,
}

impl Tokens {
    pub fn new(issuer: Issuer, keys: Keys) -> Self {
        Self { issuer, keys: ArcSwap::from_pointee(keys) }
    }

    /// The audience of a token: `asked`, or `jwt.audience` if that is `None`.
    ///
    /// # Errors
    /// The audience is not configured.
    pub fn audience<'a>(&'a self, asked: Option<&'a str>) -> Result<Option<&'a str>, UnknownAudience> {
        self.issuer.audience(asked)
    }

    /// Replaces all keys. Returns the `kid` of the active one.
    pub fn replace_keys(&self, keys: Keys, now: Timestamp) -> String {
        let keys = Arc::new(keys);
        let before = self.keys.swap(Arc::clone(&keys));
        keys.log_changes(&before, now, self.issuer.max_access_age());
        keys.access.signer(now).signing.kid().to_owned()
    }

    /// Replaces the keys of access tokens, unless `access` equals the ring in use. Returns the `kid` of the active key
    /// after a change.
    pub fn replace_access_keys(&self, access: KeyRing, now: Timestamp) -> Result<Option<String>, KeyFault> {
        let before = self.keys.load_full();
        if access == before.access {
            return Ok(None);
        }
        let keys = Keys::new(access, before.refresh.clone(), now)?;
        Ok(Some(self.replace_keys(keys, now)))
    }

    /// An HMAC under a key that is derived from `jwt.refresh_key` for the purpose `label`.
    pub fn mac(&self, label: &'static str, message: &[u8]) -> [u8; 32] {
        let key = hmac::sign(&self.keys.load().refresh.derivation, label.as_bytes());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), message);
        let mut mac = [0; 32];
        mac.copy_from_slice(tag.as_ref());
        mac
    }

    /// The MAC under which wrong codes of mails to an address are counted.
    pub fn code_mac(&self, kind: MailKind, address: &str) -> [u8; 32] {
        self.mac("signet: wrong codes", format!("{} {address}", kind.name()).as_bytes())
    }

    /// Every MAC under which failures of a user are counted.
    pub fn failure_macs(&self, user: &User) -> Vec<[u8; 32]> {
        let names = [LoginName::email(user.email.as_str()), LoginName::username(user.username.as_str())];
        let kinds = [MailKind::ResetPassword, MailKind::VerifyEmail];
        let names = names.iter().map(|login| self.account_mac(login.text()));
        names.chain(kinds.into_iter().map(|kind| self.code_mac(kind, user.email.key()))).collect()
    }

    /// The MAC of the normalised name of an account, which failed sign-ins are stored under.
    pub fn account_mac(&self, name: &str) -> [u8; 32] {
        self.mac("signet: accounts of failed sign-ins", name.as_bytes())
    }

    /// The public keys of access tokens, as a JWK set (RFC 7517 §5): the next, the active and the retiring ones.
    pub fn key_set(&self, now: Timestamp) -> JwkSet {
        let keys = self.keys.load();
        let verifying = keys.access.verifying(now, self.issuer.max_access_age());
        JwkSet { keys: verifying.filter_map(|key| key.signing.public.clone()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::{mint::sign, *};
    use crate::{
        domain::{Algorithm, Email, Name, RefreshToken, Role, SessionId, Subject, User, UserId, Username},
        keys::{Activation, SigningKey},
    };
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    const NOW: Timestamp = Timestamp(1_795_000_000);
    const SESSION: [u8; 16] = [7; 16];

    fn tokens() -> Tokens {
        let names = TokenNames { access: "access_token".into(), refresh: "refresh_token".into() };
        let issuer = Issuer {
            iss: "signet".into(),
            aud: None,
            audiences: vec!["orders".into()],
            names,
            access_lifetime: Seconds(300),
            leeway: Seconds(0),
            jti_claim: "jti".into(),
            user_id_claim: "sub".into(),
            user_id_field: UserIdField::Id,
        };
        let key = SigningKey::parse(&"a signing key of thirty-two bytes".into(), Algorithm::Hs256).unwrap();
        let ring = KeyRing::new("at+jwt", vec![(key, Activation::ALWAYS)]).unwrap();
        let refresh = RefreshKeys::new(&"a refresh key of thirty-two bytes".into(), None).unwrap();
        Tokens::new(issuer, Keys::new(ring, refresh, NOW).unwrap())
    }

    fn pair(tokens: &Tokens) -> (String, String) {
        let email = Email::parse("ann@example.com").unwrap();
        let user = User {
            id: UserId(1),
            username: Username::of_email(&email),
            email,
            first_name: Name::default(),
            last_name: Name::default(),
            is_active: true,
            is_staff: true,
            is_superuser: false,
            is_verified: false,
            created_at: NOW,
            last_login: None,
            claims: Map::new(),
        };
        let session = SessionId::from_random(SESSION);
        let refresh =
            RefreshToken { user: user.id, session, generation: 3, issued_at: NOW, expires_at: NOW + Seconds(100) };
        let grant = Grant { user: &user, session, session_end: NOW + Seconds(1000), audience: None };
        let (access, _) = tokens.mint_access(&grant, NOW).unwrap();
        (access, tokens.mint_refresh(&refresh).unwrap())
    }

    #[test]
    fn a_minted_token_verifies_as_its_own_kind_only() {
        let tokens = tokens();
        let (access, refresh) = pair(&tokens);
        let session = SessionId::from_random(SESSION);
        let verified = tokens.verify_access(&access, Expected::Any, NOW).unwrap();
        let (id, username, roles) = (UserId(1), "ann@example.com".to_owned(), vec![Role::Staff]);
        assert_eq!(verified.subject, Subject::User { id, session, username, roles });
        assert_eq!(tokens.verify_refresh(&refresh, NOW).map(|token| token.generation), Ok(3));
        assert_eq!(tokens.verify_access(&refresh, Expected::Any, NOW), Err(Refusal::WrongType));
        assert_eq!(tokens.verify_refresh(&access, NOW), Err(Refusal::WrongType));
        assert_eq!(tokens.verify_refresh_of_any_age(&access), Err(Refusal::Invalid));
    }

    #[test]
    fn claims_that_are_not_utf_8_are_refused_even_in_unknown_members() {
        let tokens = tokens();
        let keys = tokens.keys.load();
        let key = &keys.refresh.current;
        let claims = URL_SAFE_NO_PAD.decode(pair(&tokens).1.split('.').nth(1).unwrap()).unwrap();
        let with = |more: &[u8]| {
            let claims = [&claims[..claims.len() - 1], b",\"more\":\"", more, b"\"}"].concat();
            let message = format!("{}.{}", key.header, URL_SAFE_NO_PAD.encode(claims));
            format!("{message}.{}", key.signing.sign(message.as_bytes()).unwrap())
        };
        assert!(tokens.verify_refresh(&with("ä".as_bytes()), NOW).is_ok());
        for bytes in [&b"\xa8"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xff"] {
            assert_eq!(tokens.verify_refresh(&with(bytes), NOW), Err(Refusal::Invalid), "{bytes:x?}");
        }
    }

    /// JSON values of every kind.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z0-9]{0,40}".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{0,5}", inner, 0..3).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn random_text_neither_verifies_nor_panics(text in any::<String>(), dotted in "[A-Za-z0-9_=-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,43}") {
            let tokens = tokens();
            for text in [text, dotted] {
                prop_assert_eq!(tokens.verify_access(&text, Expected::Any, NOW), Err(Refusal::Invalid));
                prop_assert_eq!(tokens.verify_refresh(&text, NOW), Err(Refusal::Invalid));
            }
        }

        /// A correctly signed token with a random value in place of one claim.
        #[test]
        fn a_claim_of_any_other_value_is_refused(value in json(), place in any::<prop::sample::Index>()) {
            let tokens = tokens();
            let keys = tokens.keys.load();
            for (key, token) in [(keys.access.signer(NOW), pair(&tokens).0), (&keys.refresh.current, pair(&tokens).1)] {
                let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
                let mut claims: Map<String, Value> = serde_json::from_slice(&claims).unwrap();
                let name = claims.keys().nth(place.index(claims.len())).unwrap().clone();
                let before = claims.insert(name.clone(), value.clone()).unwrap();
                let changed = sign(key, &claims).unwrap();
                let is_accepted = tokens.verify_access(&changed, Expected::Any, NOW).is_ok() || tokens.verify_refresh(&changed, NOW).is_ok();
                let may_differ = match name.as_str() {
                    "preferred_username" => value.is_string(),
                    "roles" => value.as_array().is_some_and(Vec::is_empty),
                    "exp" | "iat" | "gen" => value.is_i64(),
                    _ => false,
                };
                prop_assert!(!is_accepted || may_differ || value == before, "{}: {}", name, value);
            }
        }

        #[test]
        fn a_token_with_one_character_changed_is_refused(place in any::<prop::sample::Index>(), other in "[ -~]") {
            let tokens = tokens();
            for (number, token) in <[String; 2]>::from(pair(&tokens)).into_iter().enumerate() {
                let place = place.index(token.len());
                prop_assume!(token[place..=place] != other);
                let changed = format!("{}{other}{}", &token[..place], &token[place + 1..]);
                prop_assert!(tokens.verify_access(&changed, Expected::Any, NOW).is_err(), "{} {}", number, changed);
                prop_assert!(tokens.verify_refresh(&changed, NOW).is_err(), "{} {}", number, changed);
            }
        }
    }
}
