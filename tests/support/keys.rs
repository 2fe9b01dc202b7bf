//! Keys of every algorithm, as OpenSSL wrote them, and the key set of a service

use super::{Endpoint, TestApp, token::take_apart};
use serde_json::Value;

/// Algorithm, private key and public key.
pub const PAIRS: &[(&str, &str, &str)] = &[
    ("RS256", include_str!("../interop/keys/rsa-pkcs8.pem"), include_str!("../interop/keys/rsa-public.pem")),
    ("RS384", include_str!("../interop/keys/rsa-pkcs1.pem"), include_str!("../interop/keys/rsa-public.pem")),
    ("RS512", include_str!("../interop/keys/rsa-pkcs8.pem"), include_str!("../interop/keys/rsa-public-pkcs1.pem")),
    ("PS256", include_str!("../interop/keys/rsa-pkcs1.pem"), include_str!("../interop/keys/rsa-public.pem")),
    ("PS384", include_str!("../interop/keys/rsa-pkcs8.pem"), include_str!("../interop/keys/rsa-public.pem")),
    ("PS512", include_str!("../interop/keys/rsa-pkcs8.pem"), include_str!("../interop/keys/rsa-public.pem")),
    ("ES256", include_str!("../interop/keys/p256-sec1.pem"), include_str!("../interop/keys/p256-public.pem")),
    ("ES384", include_str!("../interop/keys/p384-pkcs8.pem"), include_str!("../interop/keys/p384-public.pem")),
    ("EdDSA", include_str!("../interop/keys/ed25519-pkcs8.pem"), include_str!("../interop/keys/ed25519-public.pem")),
];

pub const LONG_SECRET: &str = "sixty-four bytes that only the tests know, so HS512 can use them.";

/// Each algorithm with a key for it.
pub fn algorithms() -> impl Iterator<Item = (&'static str, &'static str)> {
    let secrets = ["HS256", "HS384", "HS512"].map(|name| (name, LONG_SECRET));
    secrets.into_iter().chain(PAIRS.iter().map(|(name, private, _)| (*name, *private)))
}

/// A service that signs with this key.
pub async fn signing_with(algorithm: &str, key: &str, more: &[(&str, &str)]) -> TestApp {
    let settings = [("JWT__ALGORITHM", algorithm), ("JWT__SIGNING_KEY", key)];
    TestApp::with(&settings.iter().chain(more).copied().collect::<Vec<_>>()).await
}

pub async fn key_set(service: &Endpoint) -> Value {
    service.anon().get("/.well-known/jwks.json").await.json
}

pub fn kids(key_set: &Value) -> Vec<String> {
    key_set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

pub fn kid(token: &str) -> String {
    take_apart(token).header["kid"].as_str().unwrap().to_owned()
}
