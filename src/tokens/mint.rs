//! Mints tokens.

use super::{CLIENT_ID, MAX_LENGTH, Tokens};
use crate::{
    domain::{RefreshToken, Seconds, SessionId, SessionState, Timestamp, TokenId, User},
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

impl Tokens {
    /// An access token for `user` that does not outlast its session, and how long it is valid.
    pub fn mint_access(
        &self,
        user: &User,
        session: SessionId,
        session_end: Timestamp,
        now: Timestamp,
    ) -> Result<(String, Seconds), SigningFailed> {
        let jti = TokenId::from_bits(random());
        self.sign_access(user, session, jti, now, self.access_end(session_end, now), now)
    }

    /// The access token of a rotation. Every replica mints it with the same `sub`, `sid`, `jti`, `iat` and `exp` at any
    /// time, so a retry gets the same reply although no reply is stored. Once it has expired, a retry gets another
    /// token.
    pub fn mint_access_of_rotation(
        &self,
        user: &User,
        session: SessionId,
        state: &SessionState,
        now: Timestamp,
    ) -> Result<(String, Seconds), SigningFailed> {
        let exp = self.access_end(state.absolute_expires_at, state.rotated_at);
        if exp <= now {
            return self.mint_access(user, session, state.absolute_expires_at, now);
        }
        let text = format!("{session} {} access", state.generation);
        let tag = hmac::sign(&self.keys.load().refresh.derivation, text.as_bytes());
        let mut bits = [0; 16];
        bits.copy_from_slice(&tag.as_ref()[..16]);
        self.sign_access(user, session, TokenId::from_bits(bits), state.rotated_at, exp, now)
    }

    fn access_end(&self, session_end: Timestamp, issued_at: Timestamp) -> Timestamp {
        (issued_at + self.issuer.access_lifetime).min(session_end)
    }

    fn sign_access(
        &self,
        user: &User,
        session: SessionId,
        jti: TokenId,
        iat: Timestamp,
        exp: Timestamp,
        now: Timestamp,
    ) -> Result<(String, Seconds), SigningFailed> {
        let (issuer, id) = (&self.issuer, jti.to_string());
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
            ("roles", json!(user.roles())),
            ("preferred_username", json!(user.username.as_str())),
        ];
        let aud = issuer.aud.as_ref().map(|aud| ("aud", json!(aud)));
        let mut claims = user.claims.clone();
        claims.retain(|name, _| !is_registered(name));
        claims.extend(ours.into_iter().chain(aud).map(|(name, value)| (name.to_owned(), value)));
        let token = sign(self.keys.load().access.signer(now), &claims)?;
        if token.len() > MAX_LENGTH && !user.claims.is_empty() {
            // No service would accept it, Signet included, and the user could not sign in.
            tracing::error!(
                user.id = user.id.0,
                "a token with the user's own claims is longer than 8 KiB; they are left out"
            );
            let user = User { claims: Map::new(), ..user.clone() };
            return self.sign_access(&user, session, jti, iat, exp, now);
        }
        // Within the leeway a session may have ended already.
        Ok((token, (exp - now).max(Seconds(0))))
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
