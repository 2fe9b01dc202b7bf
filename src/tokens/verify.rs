//! Verifies tokens. Every token of a request goes through `verified_claims`.

use super::{
    CLIENT_ID, MAX_LENGTH, Tokens,
    strict_json::{Text, known_members, object, present},
};
use crate::{
    domain::{
        AccessToken, ClientId, MAX_CLOCK_SKEW, RefreshToken, Role, SessionId, Subject, Timestamp, TokenId, UserId,
    },
    keys::TokenKey,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Why a token is refused. The client learns no more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Malformed, forged, expired, or for another audience.
    Invalid,
    /// A valid token of Signet, but of the other kind.
    WrongType,
}

impl Refusal {
    fn new(is_good_as_other_kind: bool) -> Self {
        if is_good_as_other_kind { Self::WrongType } else { Self::Invalid }
    }
}

/// The audience that an access token must have.
#[derive(Debug, Clone, Copy)]
pub enum Expected<'a> {
    /// This one; `None` for a token without an audience.
    Audience(Option<&'a str>),
    /// Any one, or none.
    Any,
}

/// The header of Signet's tokens. Any other member is an error, so `crit` and the members with which a token names its
/// own key (`jwk`, `jku`, `x5c`, `x5u`) are refused without being read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "'de: 'a"))]
struct Header<'a> {
    alg: Text<'a>,
    kid: Text<'a>,
    typ: Text<'a>,
}

/// The claims of an access token (RFC 9068 §2.2, and those of Signet). Other claims are ignored.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct AccessClaims<'a> {
    iss: Text<'a>,
    #[serde(default, deserialize_with = "present")]
    aud: Option<Text<'a>>,
    sub: Text<'a>,
    client_id: Text<'a>,
    /// Only in the token of a user.
    #[serde(default, deserialize_with = "present")]
    sid: Option<Text<'a>>,
    jti: Text<'a>,
    iat: i64,
    /// Signet writes none; another holder of the key may (RFC 7519 §4.1.5).
    #[serde(default, deserialize_with = "present")]
    nbf: Option<i64>,
    exp: i64,
    token_type: Text<'a>,
    #[serde(default, deserialize_with = "present")]
    roles: Option<Vec<Role>>,
    #[serde(default, deserialize_with = "present")]
    preferred_username: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    scope: Option<Text<'a>>,
}

impl AccessClaims<'_> {
    /// The user or the client; `None` if a claim is missing, malformed, or not one of that kind of token.
    fn subject(self) -> Option<Subject> {
        if *self.client_id == *CLIENT_ID {
            let (Some(session), Some(username), None) = (self.sid, self.preferred_username, self.scope) else {
                return None;
            };
            return Some(Subject::User {
                id: UserId::parse(&self.sub)?,
                session: SessionId::parse(&session)?,
                username: username.to_owned(),
                roles: self.roles.unwrap_or_default(),
            });
        }
        let is_of_client = self.sid.is_none() && self.roles.is_none() && *self.sub == *self.client_id;
        if is_of_client { ClientId::parse(&self.sub).map(Subject::Client) } else { None }
    }
}

/// The claims of a refresh token.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct RefreshClaims<'a> {
    iss: Text<'a>,
    sub: Text<'a>,
    sid: Text<'a>,
    #[serde(rename = "gen")]
    generation: i64,
    iat: i64,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<i64>,
    exp: i64,
    token_type: Text<'a>,
}

/// Where a token is decoded: on the stack, because every request has one.
type Buffer = [u8; MAX_LENGTH / 4 * 3];

impl Tokens {
    pub fn verify_access(&self, token: &str, expected: Expected, now: Timestamp) -> Result<AccessToken, Refusal> {
        let access = self.access_token(token, expected, now);
        access.ok_or_else(|| Refusal::new(self.current_refresh_token(token, now).is_some()))
    }

    /// Reads a refresh token that has not expired.
    pub fn verify_refresh(&self, token: &str, now: Timestamp) -> Result<RefreshToken, Refusal> {
        let refresh = self.current_refresh_token(token, now);
        refresh.ok_or_else(|| Refusal::new(self.access_token(token, Expected::Any, now).is_some()))
    }

    /// Reads a refresh token of any age: its holder may end the session.
    pub fn verify_refresh_of_any_age(&self, token: &str) -> Result<RefreshToken, Refusal> {
        self.refresh_token(token).ok_or(Refusal::Invalid)
    }

    fn current_refresh_token(&self, token: &str, now: Timestamp) -> Option<RefreshToken> {
        let token = self.refresh_token(token)?;
        let is_current = now < token.expires_at + self.issuer.leeway && token.issued_at <= now + MAX_CLOCK_SKEW;
        is_current.then_some(token)
    }

    fn access_token(&self, token: &str, expected: Expected, now: Timestamp) -> Option<AccessToken> {
        let (keys, issuer) = (self.keys.load(), &self.issuer);
        let mut buffer: Buffer = [0; _];
        let claims: AccessClaims =
            verified_claims(keys.access.verifying(now, issuer.max_access_age()), token, &mut buffer)?;
        let aud = claims.aud.as_deref();
        let is_expected = match expected {
            Expected::Audience(expected) => aud == expected,
            Expected::Any => true,
        };
        let is_ours = is_expected && *claims.iss == *issuer.iss && *claims.token_type == *issuer.names.access;
        let (iat, exp) = (Timestamp(claims.iat), Timestamp(claims.exp));
        let is_current = now < exp + issuer.leeway
            && iat <= now + MAX_CLOCK_SKEW
            && claims.nbf.is_none_or(|nbf| Timestamp(nbf) <= now + issuer.leeway)
            // Whatever its `exp`: a shortened lifetime also applies to tokens that were issued before.
            && now <= iat + issuer.max_access_age();
        if !(is_ours && is_current) {
            return None;
        }
        Some(AccessToken { id: TokenId::parse(&claims.jti)?, subject: claims.subject()? })
    }

    /// The claims of an access token that is already verified.
    pub fn claims(&self, token: &str) -> Map<String, Value> {
        let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        payload.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    fn refresh_token(&self, token: &str) -> Option<RefreshToken> {
        let (keys, issuer) = (self.keys.load(), &self.issuer);
        let mut buffer: Buffer = [0; _];
        let claims: RefreshClaims = verified_claims(keys.refresh.verifying(), token, &mut buffer)?;
        let is_ours = *claims.iss == *issuer.iss
            && *claims.token_type == *issuer.names.refresh
            && claims.nbf.is_none_or(|nbf| nbf <= claims.iat)
            && claims.generation >= 0;
        is_ours.then_some(RefreshToken {
            user: UserId::parse(&claims.sub)?,
            session: SessionId::parse(&claims.sid)?,
            generation: claims.generation,
            issued_at: Timestamp(claims.iat),
            expires_at: Timestamp(claims.exp),
        })
    }
}

/// Checks the length, the three parts, the header, the signature, and only then reads the claims.
fn verified_claims<'a, 'k, C: Deserialize<'a>>(
    mut keys: impl Iterator<Item = &'k TokenKey> + Clone,
    token: &str,
    buffer: &'a mut Buffer,
) -> Option<C> {
    if token.len() > MAX_LENGTH {
        return None;
    }
    let (message, signature) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    // The header is the one that Signet writes, or has the same members.
    let key = if let Some(key) = keys.clone().find(|key| key.header == header) {
        key
    } else {
        let header: Header = known_members(decode(header, buffer)?)?;
        let key = keys.find(|key| key.signing.kid() == &*header.kid)?;
        // The key decides the algorithm, never the header (RFC 8725 §3.1); `typ` keeps the kinds apart (§3.11).
        if *header.typ != *key.typ || &*header.alg != key.signing.algorithm().name() {
            return None;
        }
        key
    };
    if !key.signing.verifies(signature, message.as_bytes()) {
        return None;
    }
    object(decode(payload, buffer)?)
}

/// Decodes strict base64url: padding, other alphabets and unused bits are errors, so a token has one spelling.
fn decode<'a>(text: &str, buffer: &'a mut Buffer) -> Option<&'a [u8]> {
    let length = URL_SAFE_NO_PAD.decode_slice(text, buffer).ok()?;
    buffer.get(..length)
}
