// Verifies the tokens on standard input with jsonwebtoken, and prints the subject of each.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors, jwk::JwkSet};

#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
}

/// Call this once a minute, and keep the last set if it fails.
async fn fetch_keys() -> reqwest::Result<JwkSet> {
    reqwest::get("https://id.example.com/.well-known/jwks.json").await?.error_for_status()?.json().await
}

fn verify(token: &str, keys: &JwkSet) -> errors::Result<Claims> {
    let header = decode_header(token)?;
    let key = header.kid.and_then(|kid| keys.find(&kid)).ok_or(errors::ErrorKind::InvalidToken)?;
    if header.typ.as_deref() != Some("at+jwt") {
        return Err(errors::ErrorKind::InvalidToken.into());
    }
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&["https://id.example.com"]);
    validation.set_audience(&["https://orders.example.com"]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    Ok(decode(token, &DecodingKey::from_jwk(key)?, &validation)?.claims)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keys = fetch_keys().await?;
    for token in std::io::stdin().lines() {
        println!("{}", verify(&token?, &keys).map_or_else(|error| format!("refused: {error}"), |claims| claims.sub));
    }
    Ok(())
}
