//! Parses texts as tokens: as they are, and signed with the right key, so that the checks after the signature are
//! reached.
//!
//! Nothing panics, and every accepted token obeys the contract.

#![no_main]

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, value::RawValue};
use signet::{
    tokens::{Expected, Issuer, Keys, RefreshKeys, TokenNames, Tokens},
    domain::{Algorithm, Seconds, Timestamp, UserIdField},
    keys::{Activation, KeyRing, SigningKey},
};
use std::{collections::HashMap, sync::LazyLock};

const SIGNING_KEY: &str = "a key that only the fuzzer knows: signing";
const REFRESH_KEY: &str = "a key that only the fuzzer knows: refresh";
const NOW: i64 = 1_795_305_600;

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let names = TokenNames { access: "access_token".into(), refresh: "refresh_token".into() };
    let issuer = Issuer {
        iss: "signet".into(),
        aud: None,
        audiences: Vec::new(),
        names,
        access_lifetime: Seconds(300),
        leeway: Seconds(0),
        jti_claim: "jti".into(),
        user_id_claim: "sub".into(),
        user_id_field: UserIdField::Id,
    };
    let key = SigningKey::parse(&SIGNING_KEY.into(), Algorithm::Hs256).unwrap();
    let ring = KeyRing::new("at+jwt", vec![(key, Activation::ALWAYS)]).unwrap();
    let refresh = RefreshKeys::new(&REFRESH_KEY.into(), None).unwrap();
    Tokens::new(issuer, Keys::new(ring, refresh, Timestamp(NOW)).unwrap())
});

fn kid(key: &str) -> String {
    SigningKey::parse(&key.into(), Algorithm::Hs256).unwrap().kid().to_owned()
}

static KIDS: LazyLock<[String; 2]> = LazyLock::new(|| [kid(SIGNING_KEY), kid(REFRESH_KEY)]);

fn sign(header: &[u8], claims: &[u8], key: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// A part of an accepted token: one JSON object in strict base64url. Unknown members may have numbers that `serde_json`
/// cannot read, such as 6e733361760.
struct Part(HashMap<String, Box<RawValue>>);

impl Part {
    fn of(token: &str, number: usize) -> Self {
        let text = token.split('.').nth(number).expect("three parts");
        Self(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("strict base64url")).expect("an object"))
    }

    fn get(&self, name: &str) -> Value {
        self.0.get(name).map_or(Value::Null, |raw| serde_json::from_str(raw.get()).expect("a value"))
    }
}

fn check(token: &str) {
    let now = Timestamp(NOW);
    let access = TOKENS.verify_access(token, Expected::Audience(None), now);
    let refresh = TOKENS.verify_refresh(token, now);
    let _ = TOKENS.verify_refresh_of_any_age(token);
    assert!(access.is_err() || refresh.is_err(), "one token is never both");
    if access.is_ok() || refresh.is_ok() {
        let (header, claims) = (Part::of(token, 0), Part::of(token, 1));
        let (typ, token_type, kid) =
            if access.is_ok() { ("at+jwt", "access_token", &KIDS[0]) } else { ("rt+jwt", "refresh_token", &KIDS[1]) };
        assert_eq!(header.0.len(), 3);
        assert_eq!(["alg", "typ", "kid"].map(|name| header.get(name)), ["HS256", typ, kid].map(Value::from));
        assert_eq!(["iss", "token_type"].map(|name| claims.get(name)), ["signet", token_type].map(Value::from));
        assert!(claims.get("exp").as_i64().expect("a whole number") > NOW);
        assert!(claims.get("iat").as_i64().expect("a whole number") <= NOW + 60);
        // The token of a client has no session.
        assert!(claims.get("sub").is_string() && (claims.get("sid").is_string() || claims.get("client_id") != "signet"));
        assert!(claims.0.get("aud").is_none() || typ == "rt+jwt");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let (key, typ, kid) =
        if kind & 1 == 0 { (SIGNING_KEY, "at+jwt", &KIDS[0]) } else { (REFRESH_KEY, "rt+jwt", &KIDS[1]) };
    match kind >> 1 & 3 {
        // The text as a token.
        0 => check(&String::from_utf8_lossy(rest)),
        // The text as claims, with the right header and signature.
        1 => check(&sign(format!(r#"{{"alg":"HS256","kid":"{kid}","typ":"{typ}"}}"#).as_bytes(), rest, key)),
        // The text as header and claims, with the right signature.
        _ => {
            let at = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            check(&sign(&rest[..at], rest.get(at + 1..).unwrap_or_default(), key));
        }
    }
});
