//! Making and reading tokens. Every token that comes in goes through `verified_claims`.
//!
//! jsonwebtoken makes and checks signatures; the rest is ours, because its `decode` lets `crit` through, does not
//! look at `typ`, takes a list for `iss`, rounds times that are no integers, and asks the machine for the time.

use crate::{
    domain::{
        AccessToken, Algorithm, MAX_CLOCK_SKEW, RefreshToken, Role, Seconds, SessionId, SessionState, Timestamp,
        TokenId, User, UserId, UserIdField,
    },
    keys::{KeyFault, KeyRing, SigningKey, TokenKey},
};
use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::JwkSet;
use secrecy::{ExposeSecret, SecretString};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use smallvec::SmallVec;
use std::{borrow::Cow, fmt, iter, sync::Arc};

/// The longest token that is looked at, in bytes.
const MAX_LENGTH: usize = 8 * 1024;
/// The longest claims of a user's own, in bytes of JSON.
const MAX_CLAIMS: usize = 4 * 1024;

/// The `client_id` of tokens that came from a sign-in (RFC 9068 §2.2).
const CLIENT_ID: &str = "signet";

/// Why a token is refused. The client learns no more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Malformed, forged, expired, or for another audience.
    Invalid,
    /// One of ours that verifies, but as the other kind.
    WrongType,
}

/// The values of `token_type`.
#[derive(Debug, Clone)]
pub struct TokenNames {
    pub access: String,
    pub refresh: String,
}

/// Who issues tokens, for whom, and for how long they are good.
#[derive(Debug, Clone)]
pub struct Issuer {
    pub iss: String,
    pub aud: Option<String>,
    pub names: TokenNames,
    pub access_lifetime: Seconds,
    /// How long after its end a token is still taken, for clocks that differ.
    pub leeway: Seconds,
    pub added: AddedClaims,
}

impl Issuer {
    /// How long after it was made an access token may still be taken.
    pub fn access_reach(&self) -> Seconds {
        Seconds(self.access_lifetime.0.saturating_add(self.leeway.0))
    }
}

/// The claims that settings add.
#[derive(Debug, Clone, Default)]
pub struct AddedClaims {
    /// Where the `jti` stands, too.
    pub jti: Option<String>,
    /// What of the user stands where.
    pub user_id: Option<(String, UserIdField)>,
}

/// Claims that mean something to services that verify a token (RFC 7519, RFC 9068, `OpenID` Connect, and ours): no user's
/// own claim has one of these names.
pub const REGISTERED: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "sid",
    "gen",
    "client_id",
    "token_type",
    "roles",
    "groups",
    "entitlements",
    "scope",
    "preferred_username",
    "auth_time",
    "acr",
    "amr",
    "azp",
    "nonce",
    "act",
    "may_act",
    "cnf",
];

/// The keys of both kinds of token. Each kind has its key, its `typ` and its claims (RFC 8725 §3.12).
#[derive(Clone)]
pub struct Keys {
    access: KeyRing,
    refresh: RefreshKeys,
}

impl Keys {
    /// The `typ` of access tokens (RFC 9068 §2.1).
    pub const ACCESS: &str = "at+jwt";

    /// # Errors
    /// No key of access tokens is active, or one of them is also a key of refresh tokens.
    pub fn new(access: KeyRing, refresh: RefreshKeys, now: Timestamp) -> Result<Self, KeyFault> {
        access.check_active(now)?;
        if let Some(key) = refresh.verifying().find(|key| access.has(key.signing.kid())) {
            return Err(KeyFault(format!(
                "the key {} of access tokens is also jwt.refresh_key or jwt.refresh_key_previous: a service that \
                 verifies access tokens with it could make refresh tokens",
                key.signing.kid()
            )));
        }
        Ok(Self { access, refresh })
    }
}

/// The keys of refresh tokens.
#[derive(Clone)]
pub struct RefreshKeys {
    /// Signs and verifies.
    current: TokenKey,
    /// Verifies: the key before, or the one that comes after.
    previous: Option<TokenKey>,
    /// Derives the parts of a pair that a retry must get again.
    derivation: hmac::Key,
}

impl RefreshKeys {
    const TYP: &str = "rt+jwt";

    /// # Errors
    /// A key is too weak.
    pub fn new(current: &SecretString, previous: Option<&SecretString>) -> Result<Self, KeyFault> {
        let parse = |text| Ok::<_, KeyFault>(TokenKey::new(SigningKey::parse(text, Algorithm::Hs256)?, Self::TYP));
        Ok(Self {
            current: parse(current)?,
            previous: previous.map(parse).transpose()?,
            derivation: hmac::Key::new(hmac::HMAC_SHA256, current.expose_secret().as_bytes()),
        })
    }

    fn verifying(&self) -> impl Iterator<Item = &TokenKey> + Clone {
        iter::once(&self.current).chain(&self.previous)
    }
}

/// Mints and verifies both kinds of token.
pub struct Tokens {
    issuer: Issuer,
    /// Every request reads it without waiting.
    keys: ArcSwap<Keys>,
}

/// A text of a token: a part of what was decoded, not a copy, unless it was written with escapes.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a, T: Into<Cow<'a, str>>> From<T> for Text<'a> {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// The header of our tokens. Whatever has another member was not made by us: that refuses `crit`, and the keys
/// that a token brings along (`jwk`, `jku`, `x5c`, `x5u`), without ever looking at them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Text<'a>,
    #[serde(borrow)]
    kid: Text<'a>,
    #[serde(borrow)]
    typ: Text<'a>,
}

/// The claims of an access token (RFC 9068 §2.2, and ours). A wrong type, a missing or a doubled one is an error.
#[derive(Serialize, Deserialize)]
struct AccessClaims<'a> {
    #[serde(borrow)]
    iss: Text<'a>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none", deserialize_with = "some_text")]
    aud: Option<Text<'a>>,
    #[serde(borrow)]
    sub: Text<'a>,
    #[serde(borrow)]
    client_id: Text<'a>,
    #[serde(borrow)]
    sid: Text<'a>,
    #[serde(borrow)]
    jti: Text<'a>,
    iat: i64,
    /// We write none, and heed it all the same (RFC 7519 §4.1.5).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_time")]
    nbf: Option<i64>,
    exp: i64,
    #[serde(borrow)]
    token_type: Text<'a>,
    roles: Vec<Role>,
    #[serde(borrow)]
    preferred_username: Text<'a>,
}

/// The claims of an access token, with whatever else stands in it.
#[derive(Serialize)]
struct WithAdded<'a> {
    #[serde(flatten)]
    claims: AccessClaims<'a>,
    #[serde(flatten)]
    added: Map<String, Value>,
}

/// The claims of a refresh token.
#[derive(Serialize, Deserialize)]
struct RefreshClaims<'a> {
    #[serde(borrow)]
    iss: Text<'a>,
    #[serde(borrow)]
    sub: Text<'a>,
    #[serde(borrow)]
    sid: Text<'a>,
    #[serde(rename = "gen")]
    generation: i64,
    iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_time")]
    nbf: Option<i64>,
    exp: i64,
    #[serde(borrow)]
    token_type: Text<'a>,
}

/// Takes a string and nothing else: `null` is not an absent claim.
fn some_text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Text<'a>>, D::Error> {
    Text::deserialize(deserializer).map(Some)
}

/// Takes a whole number and nothing else.
fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    i64::deserialize(deserializer).map(Some)
}

/// Where a token is decoded: on the stack, because every request brings one.
struct Scratch([u8; MAX_LENGTH / 4 * 3]);

impl Scratch {
    fn new() -> Self {
        Self([0; _])
    }

    /// Decodes strict base64url: padding, other alphabets and unused bits are errors, so that a token has one spelling.
    fn decode(&mut self, text: &str) -> Option<&[u8]> {
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut self.0).ok()?;
        self.0.get(..length)
    }
}

impl Tokens {
    pub fn new(issuer: Issuer, keys: Keys) -> Self {
        Self { issuer, keys: ArcSwap::from_pointee(keys) }
    }

    /// Replaces all keys for every request from now on. Returns the `kid` of the active one.
    pub fn replace_keys(&self, keys: Keys, now: Timestamp) -> String {
        let keys = Arc::new(keys);
        let before = self.keys.swap(Arc::clone(&keys));
        for key in keys.access.late_since(&before.access, now) {
            tracing::warn!(
                kid = key.kid(),
                "a key was first seen after its activation: services that cache the key set may refuse its tokens for a \
                 minute"
            );
        }
        let gone = keys.access.removed_since(&before.access, now).map(|key| ("access", key.kid()));
        let is_gone = |key: &&TokenKey| keys.refresh.verifying().all(|mine| mine.signing.kid() != key.signing.kid());
        let refresh_gone = before.refresh.verifying().filter(is_gone).map(|key| ("refresh", key.signing.kid()));
        for (what, kid) in gone.chain(refresh_gone) {
            tracing::warn!(kid, "a key is gone: the {what} tokens that it signed are refused now");
        }
        keys.access.signer(now).signing_key().kid().to_owned()
    }

    /// Replaces the keys of access tokens, unless the ring is the one that is in use. Returns the `kid` of the active key
    /// after a change.
    ///
    /// # Errors
    /// As [`Keys::new`].
    pub fn replace_access_keys(&self, access: KeyRing, now: Timestamp) -> Result<Option<String>, KeyFault> {
        let before = self.keys.load_full();
        if access.is_same_as(&before.access) {
            return Ok(None);
        }
        let keys = Keys::new(access, before.refresh.clone(), now)?;
        Ok(Some(self.replace_keys(keys, now)))
    }

    /// The public keys of access tokens, as a JWK set (RFC 7517 §5): the next, the active and the retiring ones.
    pub fn key_set(&self, now: Timestamp) -> JwkSet {
        JwkSet { keys: self.keys.load().access.verifying(now).filter_map(|key| key.signing.public.clone()).collect() }
    }

    /// An access token for `user`, good from now on and never beyond the end of its session; and how many seconds
    /// it is good for.
    ///
    /// # Errors
    /// When the key cannot sign, which the start has ruled out.
    pub fn mint_access(
        &self,
        user: &User,
        session: SessionId,
        session_end: Timestamp,
        now: Timestamp,
    ) -> Result<(String, Seconds), SigningFailed> {
        let jti = TokenId::from_bits(crate::random::random());
        let exp = self.access_end(session_end, now);
        // Within the leeway a session may have ended already.
        Ok((self.sign_access(user, session, jti, (now, exp), now)?, (exp - now).max(Seconds(0))))
    }

    /// The access token that goes with a rotation: the same `sub`, `sid`, `jti`, `iat` and `exp` whoever mints it and
    /// whenever, so that an answer can be repeated without having been stored. `None` once it has ended.
    ///
    /// # Errors
    /// When the key cannot sign, which the start has ruled out.
    pub fn mint_access_of_rotation(
        &self,
        user: &User,
        session: SessionId,
        state: &SessionState,
        now: Timestamp,
    ) -> Result<Option<(String, Seconds)>, SigningFailed> {
        let exp = self.access_end(state.absolute_expires_at, state.rotated_at);
        if exp <= now {
            return Ok(None);
        }
        let tag = hmac::sign(
            &self.keys.load().refresh.derivation,
            format!("{session} {} access", state.generation).as_bytes(),
        );
        let mut bits = [0; 16];
        bits.copy_from_slice(&tag.as_ref()[..16]);
        let jti = TokenId::from_bits(bits);
        Ok(Some((self.sign_access(user, session, jti, (state.rotated_at, exp), now)?, exp - now)))
    }

    fn access_end(&self, session_end: Timestamp, issued_at: Timestamp) -> Timestamp {
        (issued_at + self.issuer.access_lifetime).min(session_end)
    }

    fn sign_access(
        &self,
        user: &User,
        session: SessionId,
        jti: TokenId,
        (iat, exp): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Result<String, SigningFailed> {
        let claims = || AccessClaims {
            iss: self.issuer.iss.as_str().into(),
            aud: self.issuer.aud.as_deref().map(Text::from),
            sub: user.id.to_string().into(),
            client_id: CLIENT_ID.into(),
            sid: session.to_string().into(),
            jti: jti.to_string().into(),
            iat: iat.0,
            nbf: None,
            exp: exp.0,
            token_type: self.issuer.names.access.as_str().into(),
            roles: user.roles(),
            preferred_username: user.username.as_str().into(),
        };
        let added = |own| WithAdded { claims: claims(), added: self.added_claims(user, own, &jti.to_string()) };
        let (keys, nothing) = (self.keys.load(), Map::new());
        let key = &keys.access.signer(now).key;
        let token = sign(key, &added(&user.claims))?;
        if token.len() <= MAX_LENGTH || user.claims.is_empty() {
            return Ok(token);
        }
        // No service would take it, this one included. Issuer, audience and username have their share of the length.
        tracing::error!(
            user.id = user.id.0,
            "a token with the user's own claims is longer than 8 KiB; they are left out"
        );
        sign(key, &added(&nothing))
    }

    /// The user's own claims, and those that settings add; never one that means something already.
    fn added_claims(&self, user: &User, own: &Map<String, Value>, jti: &str) -> Map<String, Value> {
        let AddedClaims { jti: jti_claim, user_id } = &self.issuer.added;
        let named: [Option<(&String, Value)>; 2] = [
            jti_claim.as_ref().map(|name| (name, jti.into())),
            user_id.as_ref().map(|(name, field)| (name, user.identity(*field).into())),
        ];
        let own = Some(own).filter(|claims| fit(user, claims)).into_iter().flatten();
        let own = own.filter(|(name, _)| !REGISTERED.contains(&name.as_str()));
        let own = own.map(|(name, value)| (name.clone(), value.clone()));
        own.chain(named.into_iter().flatten().map(|(name, value)| (name.clone(), value))).collect()
    }

    /// The refresh token of a session's generation.
    ///
    /// # Errors
    /// When the key cannot sign, which the start has ruled out.
    pub fn mint_refresh(&self, token: &RefreshToken) -> Result<String, SigningFailed> {
        let claims = RefreshClaims {
            iss: self.issuer.iss.as_str().into(),
            sub: token.user.to_string().into(),
            sid: token.session.to_string().into(),
            generation: token.generation,
            iat: token.issued_at.0,
            nbf: None,
            exp: token.expires_at.0,
            token_type: self.issuer.names.refresh.as_str().into(),
        };
        sign(&self.keys.load().refresh.current, &claims)
    }

    /// Reads an access token.
    ///
    /// # Errors
    /// [`Refusal::WrongType`] for a refresh token that would be good as one.
    pub fn verify_access(&self, token: &str, now: Timestamp) -> Result<AccessToken, Refusal> {
        match self.access_token(token, now) {
            Some(token) => Ok(token),
            None if self.refresh_token(token).is_some_and(|token| self.is_current(&token, now)) => {
                Err(Refusal::WrongType)
            }
            None => Err(Refusal::Invalid),
        }
    }

    /// Reads a refresh token that is still good.
    ///
    /// # Errors
    /// [`Refusal::WrongType`] for an access token that would be good as one.
    pub fn verify_refresh(&self, token: &str, now: Timestamp) -> Result<RefreshToken, Refusal> {
        match self.refresh_token(token) {
            Some(token) if self.is_current(&token, now) => Ok(token),
            None if self.access_token(token, now).is_some() => Err(Refusal::WrongType),
            _ => Err(Refusal::Invalid),
        }
    }

    /// Reads a refresh token of any age: its holder may end the session.
    ///
    /// # Errors
    /// When it is no rightly signed refresh token.
    pub fn verify_refresh_of_any_age(&self, token: &str) -> Result<RefreshToken, Refusal> {
        self.refresh_token(token).ok_or(Refusal::Invalid)
    }

    fn is_current(&self, token: &RefreshToken, now: Timestamp) -> bool {
        now < token.expires_at + self.issuer.leeway && token.issued_at <= now + MAX_CLOCK_SKEW
    }

    fn access_token(&self, token: &str, now: Timestamp) -> Option<AccessToken> {
        let (keys, mut scratch) = (self.keys.load(), Scratch::new());
        let claims: AccessClaims = verified_claims(keys.access.verifying(now), token, &mut scratch)?;
        let issuer = &self.issuer;
        let (iat, exp) = (Timestamp(claims.iat), Timestamp(claims.exp));
        let is_ours = claims.iss.0 == issuer.iss
            && claims.aud.as_ref().map(|aud| &*aud.0) == issuer.aud.as_deref()
            && claims.client_id.0 == CLIENT_ID
            && claims.token_type.0 == issuer.names.access;
        let is_current = now < exp + issuer.leeway
            && iat <= now + MAX_CLOCK_SKEW
            && claims.nbf.is_none_or(|nbf| Timestamp(nbf) <= now + issuer.leeway)
            // Whatever its `exp`: a lifetime that was shortened holds for the tokens that are out, too.
            && now <= iat + issuer.access_lifetime + issuer.leeway;
        if !(is_ours && is_current) {
            return None;
        }
        Some(AccessToken {
            id: TokenId::parse(&claims.jti.0)?,
            user: UserId::parse(&claims.sub.0)?,
            session: SessionId::parse(&claims.sid.0)?,
            username: claims.preferred_username.0.into_owned(),
            roles: claims.roles,
        })
    }

    fn refresh_token(&self, token: &str) -> Option<RefreshToken> {
        let (keys, mut scratch) = (self.keys.load(), Scratch::new());
        let claims: RefreshClaims = verified_claims(keys.refresh.verifying(), token, &mut scratch)?;
        let is_ours = claims.iss.0 == self.issuer.iss
            && claims.token_type.0 == self.issuer.names.refresh
            && claims.nbf.is_none_or(|nbf| nbf <= claims.iat);
        let token = RefreshToken {
            user: UserId::parse(&claims.sub.0)?,
            session: SessionId::parse(&claims.sid.0)?,
            generation: claims.generation,
            issued_at: Timestamp(claims.iat),
            expires_at: Timestamp(claims.exp),
        };
        (is_ours && token.generation >= 0).then_some(token)
    }
}

/// Whether a user's own claims leave a token that can be taken. Written anew, numbers can be longer than they were.
fn fit(user: &User, claims: &Map<String, Value>) -> bool {
    let fit = claims.is_empty() || serde_json::to_string(claims).is_ok_and(|text| text.len() <= MAX_CLAIMS);
    if !fit {
        tracing::error!(user.id = user.id.0, "the user's own claims are longer than 4 KiB and left out");
    }
    fit
}

fn sign(key: &TokenKey, claims: &impl Serialize) -> Result<String, SigningFailed> {
    let mut token = key.header.clone();
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims).map_err(|_| SigningFailed)?, &mut token);
    let signature = key.signing.sign(token.as_bytes()).map_err(|_| SigningFailed)?;
    token.push('.');
    token.push_str(&signature);
    Ok(token)
}

/// The one gate: length, three parts, header, signature, and only then the claims.
fn verified_claims<'a, 'k, C: Deserialize<'a>>(
    mut keys: impl Iterator<Item = &'k TokenKey> + Clone,
    token: &str,
    scratch: &'a mut Scratch,
) -> Option<C> {
    if token.len() > MAX_LENGTH {
        return None;
    }
    let (message, signature) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    // As we write it, or at least with the same in it.
    let key = if let Some(key) = keys.clone().find(|key| key.header == header) {
        key
    } else {
        let header: Header = member_by_member(scratch.decode(header)?)?;
        let key = keys.find(|key| key.signing.kid() == header.kid.0)?;
        // The key decides the algorithm, never the header (RFC 8725 §3.1); `typ` keeps the kinds apart (§3.11).
        if header.typ.0 != key.typ || header.alg.0 != key.signing.algorithm().name() {
            return None;
        }
        key
    };
    if !key.signing.verifies(signature, message.as_bytes()) {
        return None;
    }
    object(scratch.decode(payload)?)
}

/// Reads a JSON object in which nothing stands twice. Only for what was signed by us: each member is compared with all
/// that came before it.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    serde_json::from_slice::<Distinct>(json).ok()?;
    member_by_member(json)
}

/// Reads a JSON object up to the first member that is wrong, doubled, or, where `T` denies those, unknown. (serde would take
/// an array for a struct, too, and whatever bytes in a text that it skips.)
fn member_by_member<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    let json = std::str::from_utf8(json).ok().filter(|json| json.starts_with('{'))?;
    serde_json::from_str(json).ok()
}

/// An object whose members have different names.
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        // As many as our tokens have, and some that settings and users add.
        let mut names = SmallVec::<[Text<'de>; 24]>::new();
        while let Some((name, IgnoredAny)) = map.next_entry::<Text, _>()? {
            if names.iter().any(|known| known.0 == name.0) {
                return Err(A::Error::custom("a member stands twice"));
            }
            names.push(name);
        }
        Ok(self)
    }
}

/// A key that was tried when it was loaded does not sign any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key cannot sign")]
pub struct SigningFailed;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Email, Name, Username},
        keys::Activation,
    };
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_795_000_000);
    const SESSION: [u8; 16] = [7; 16];

    fn tokens() -> Tokens {
        let names = TokenNames { access: "access_token".into(), refresh: "refresh_token".into() };
        let issuer = Issuer {
            iss: "signet".into(),
            aud: None,
            names,
            access_lifetime: Seconds(300),
            leeway: Seconds(0),
            added: AddedClaims::default(),
        };
        let key = SigningKey::parse(&"a signing key of thirty-two bytes".into(), Algorithm::Hs256).unwrap();
        let ring = KeyRing::new(Keys::ACCESS, vec![(key, Activation::ALWAYS)], issuer.access_reach()).unwrap();
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
        let (access, _) = tokens.mint_access(&user, session, NOW + Seconds(1000), NOW).unwrap();
        (access, tokens.mint_refresh(&refresh).unwrap())
    }

    #[test]
    fn what_is_minted_verifies_as_what_it_is_and_nothing_else() {
        let tokens = tokens();
        let (access, refresh) = pair(&tokens);
        let session = SessionId::from_random(SESSION);
        let verified = tokens.verify_access(&access, NOW).unwrap();
        assert_eq!(
            (verified.user, verified.session, verified.username.as_str()),
            (UserId(1), session, "ann@example.com")
        );
        assert_eq!(verified.roles, [Role::Staff]);
        assert_eq!(tokens.verify_refresh(&refresh, NOW).map(|token| token.generation), Ok(3));
        assert_eq!(tokens.verify_access(&refresh, NOW), Err(Refusal::WrongType));
        assert_eq!(tokens.verify_refresh(&access, NOW), Err(Refusal::WrongType));
        assert_eq!(tokens.verify_refresh_of_any_age(&access), Err(Refusal::Invalid));
    }

    #[test]
    fn claims_that_are_not_utf_8_are_refused_even_where_they_mean_nothing() {
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
        fn no_text_verifies_or_panics(text in any::<String>(), dotted in "[A-Za-z0-9_=-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,43}") {
            let tokens = tokens();
            for text in [text, dotted] {
                prop_assert_eq!(tokens.verify_access(&text, NOW), Err(Refusal::Invalid));
                prop_assert_eq!(tokens.verify_refresh(&text, NOW), Err(Refusal::Invalid));
            }
        }

        /// Rightly signed, with any value in the place of a claim: it is refused, unless it is a value that may stand there.
        #[test]
        fn a_claim_of_any_other_value_is_refused(value in json(), place in any::<prop::sample::Index>()) {
            let tokens = tokens();
            let keys = tokens.keys.load();
            for (key, token) in [(&keys.access.signer(NOW).key, pair(&tokens).0), (&keys.refresh.current, pair(&tokens).1)] {
                let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
                let mut claims: Map<String, Value> = serde_json::from_slice(&claims).unwrap();
                let name = claims.keys().nth(place.index(claims.len())).unwrap().clone();
                let before = claims.insert(name.clone(), value.clone()).unwrap();
                let changed = sign(key, &claims).unwrap();
                let is_accepted = tokens.verify_access(&changed, NOW).is_ok() || tokens.verify_refresh(&changed, NOW).is_ok();
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
                prop_assert!(tokens.verify_access(&changed, NOW).is_err(), "{} {}", number, changed);
                prop_assert!(tokens.verify_refresh(&changed, NOW).is_err(), "{} {}", number, changed);
            }
        }
    }
}
