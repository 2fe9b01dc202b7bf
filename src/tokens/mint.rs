//! Mints tokens.

use super::{CLIENT_ID, MAX_LENGTH, Tokens};
use crate::{
    domain::{ClientId, RefreshToken, Scopes, Seconds, SessionId, SessionState, Timestamp, TokenId, User},
    keys::TokenKey,
    random::random,
};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, json};

/// Whether services interpret a claim of this name (RFC 7519, RFC 9068, `OpenID` Connect, and Signet). A user's own
/// claims with these names are left out of tokens.
pub fn is_registered(claim: &str) -> bool {
    const NAMES: &str = "iss sub aud exp nbf iat jti sid gen client_id token_type roles scope \
                         preferred_username auth_time acr amr azp act may_act cnf";
    NAMES.split(' ').any(|name| name == claim)
}

/// A key that could sign when it was loaded cannot sign any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key cannot sign")]
pub struct SigningFailed;

/// The user, the session (or API key) and the audience of an access token.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    pub user: &'a User,
    pub session: SessionId,
    /// The token does not outlast its session.
    pub session_end: Timestamp,
    pub audience: Option<&'a str>,
}

impl Tokens {
    /// An access token, and how long it is valid.
    pub fn mint_access(&self, grant: &Grant, now: Timestamp) -> Result<(String, Seconds), SigningFailed> {
        let jti = TokenId::from_bits(random());
        self.sign_access(grant, jti, now, self.access_end(grant.session_end, now), now)
    }

    /// The access token of a rotation. For each audience, every replica mints it with the same `sub`, `sid`, `jti`,
    /// `iat` and `exp` at any time, so a retry gets the same reply although no reply is stored. Once it has expired, a
    /// retry gets another token.
    pub fn mint_access_of_rotation(
        &self,
        grant: &Grant,
        state: &SessionState,
        now: Timestamp,
    ) -> Result<(String, Seconds), SigningFailed> {
        let exp = self.access_end(grant.session_end, state.rotated_at);
        if exp <= now {
            return self.mint_access(grant, now);
        }
        let mut text = format!("{} {} access", grant.session, state.generation);
        // A token for another audience is another token, and must not have the same `jti`.
        text.extend(grant.audience.into_iter().flat_map(|audience| [" ", audience]));
        let tag = hmac::sign(&self.keys.load().refresh.derivation, text.as_bytes());
        let mut bits = [0; 16];
        bits.copy_from_slice(&tag.as_ref()[..16]);
        self.sign_access(grant, TokenId::from_bits(bits), state.rotated_at, exp, now)
    }

    fn access_end(&self, session_end: Timestamp, issued_at: Timestamp) -> Timestamp {
        (issued_at + self.issuer.access_lifetime).min(session_end)
    }

    fn sign_access(
        &self,
        grant: &Grant,
        jti: TokenId,
        iat: Timestamp,
        exp: Timestamp,
        now: Timestamp,
    ) -> Result<(String, Seconds), SigningFailed> {
        let &Grant { user, session, audience, .. } = grant;
        let (issuer, id, roles) = (&self.issuer, jti.to_string(), user.roles());
        let ours = [
            (issuer.jti_claim.as_str(), json!(id)),
            (issuer.user_id_claim.as_str(), json!(user.identity(issuer.user_id_field))),
            ("iss", json!(issuer.iss)),
            ("sub", json!(user.id.to_string())),
            ("client_id", json!(CLIENT_ID)),
            ("sid", json!(session.to_string())),
            ("jti", json!(id)),
            ("iat", json!(iat)),
            ("exp", json!(exp)),
            ("token_type", json!(issuer.names.access)),
            ("preferred_username", json!(user.username.as_str())),
        ];
        let aud = audience.map(|aud| ("aud", json!(aud)));
        // Absent rather than empty: some verifiers refuse an empty array.
        let roles = (!roles.is_empty()).then(|| ("roles", json!(roles)));
        let mut claims = user.claims.clone();
        claims.retain(|name, _| !is_registered(name));
        claims.extend(ours.into_iter().chain(aud).chain(roles).map(|(name, value)| (name.to_owned(), value)));
        let token = sign(self.keys.load().access.signer(now), &claims)?;
        if token.len() > MAX_LENGTH && !user.claims.is_empty() {
            // No service would accept it, Signet included, and the user could not sign in.
            tracing::error!(
                user.id = user.id.0,
                "a token with the user's own claims is longer than 8 KiB; they are left out"
            );
            let user = User { claims: Map::new(), ..user.clone() };
            return self.sign_access(&Grant { user: &user, ..*grant }, jti, iat, exp, now);
        }
        // Within the leeway a session may have ended already.
        Ok((token, (exp - now).max(Seconds(0))))
    }

    /// An access token for a client itself, and how long it is valid (RFC 6749 §4.4).
    pub fn mint_client(
        &self,
        client: ClientId,
        scopes: &Scopes,
        audience: Option<&str>,
        now: Timestamp,
    ) -> Result<(String, Seconds), SigningFailed> {
        let (issuer, id, lifetime) = (&self.issuer, client.to_string(), self.issuer.access_lifetime);
        let mut claims = json!({
            "iss": issuer.iss,
            "sub": id,
            "client_id": id,
            "jti": TokenId::from_bits(random()).to_string(),
            "iat": now,
            "exp": now + lifetime,
            "token_type": issuer.names.access,
        });
        if let Some(audience) = audience {
            claims["aud"] = audience.into();
        }
        if !scopes.is_empty() {
            claims["scope"] = scopes.to_string().into();
        }
        Ok((sign(self.keys.load().access.signer(now), &claims)?, lifetime))
    }

    /// The refresh token of a session's generation.
    pub fn mint_refresh(&self, token: &RefreshToken) -> Result<String, SigningFailed> {
        let claims = json!({
            "iss": self.issuer.iss,
            "sub": token.user.to_string(),
            "sid": token.session.to_string(),
            "gen": token.generation,
            "iat": token.issued_at,
            "exp": token.expires_at,
            "token_type": self.issuer.names.refresh,
        });
        sign(&self.keys.load().refresh.current, &claims)
    }
}

pub(super) fn sign(key: &TokenKey, claims: &impl Serialize) -> Result<String, SigningFailed> {
    let mut token = key.header.clone();
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims).map_err(|_| SigningFailed)?, &mut token);
    let signature = key.signing.sign(token.as_bytes()).map_err(|_| SigningFailed)?;
    token.push('.');
    token.push_str(&signature);
    Ok(token)
}
