//! A single key: a shared secret or a key pair, bound to one algorithm (RFC 8725 §3.1).

use crate::{domain::Algorithm, random::random};
use aws_lc_rs::{
    encoding::AsDer,
    error::Unspecified,
    hmac,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING as P256, ECDSA_P384_SHA384_FIXED_SIGNING as P384, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm as Jwa, DecodingKey, EncodingKey, crypto,
    errors::Error,
    jwk::{Jwk, PublicKeyUse, ThumbprintHash},
};
use pem::Pem;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::collections::HashSet;

/// Why a text is not a key for its algorithm, and what would be one. Never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyFault(pub String);

impl From<&str> for KeyFault {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A key that signs tokens, the one algorithm that it signs with, and the `kid` that tokens name it by.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    /// The library's name of `algorithm`.
    jwa: Jwa,
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// The public half for the key set; `None` for a shared secret, which is not published.
    pub(crate) public: Option<Jwk>,
}

impl SigningKey {
    /// Parses a key: PEM (PKCS#8, PKCS#1 or SEC1), or the bytes of a secret.
    ///
    /// # Errors
    /// When it is too weak, of another kind than the algorithm needs, public, encrypted, or no key at all.
    pub fn parse(text: &SecretString, algorithm: Algorithm) -> Result<Self, KeyFault> {
        let key = match algorithm.secret_length() {
            Some(length) => Self::secret(text.expose_secret(), algorithm, length)?,
            None => Self::pair(text.expose_secret(), algorithm)?,
        };
        // A key that cannot sign is refused now, not at the first sign-in.
        let signature = key.sign(b"probe").map_err(|_| unusable(algorithm))?;
        if key.verifies(&signature, b"probe") { Ok(key) } else { Err(unusable(algorithm)) }
    }

    fn secret(text: &str, algorithm: Algorithm, length: usize) -> Result<Self, KeyFault> {
        let (name, start) = (algorithm.name(), text.trim_start());
        if text.contains("-----BEGIN") {
            return Err(KeyFault(format!(
                "is PEM, and {name} needs a secret; set jwt.algorithm to what the key is for"
            )));
        }
        let is_ssh = ["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|kind| start.starts_with(kind));
        if is_ssh || (start.starts_with('{') && text.contains("\"kty\"")) {
            return Err(KeyFault(format!(
                "is a key in another format, and {name} needs a secret that only Signet has"
            )));
        }
        if text.len() < length {
            return Err(KeyFault(format!("must have at least {length} bytes for {name}")));
        }
        if is_guessable(text) {
            return Err("is a published or trivial key, with which anyone can sign".into());
        }
        let bytes = text.as_bytes();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes), b"signet kid");
        Ok(Self {
            // Computed from the key, so nothing has to store it. It reveals no more of the key than a signature does.
            kid: URL_SAFE_NO_PAD.encode(&tag.as_ref()[..8]),
            algorithm,
            jwa: jwa(algorithm)?,
            encoding: EncodingKey::from_secret(bytes),
            decoding: DecodingKey::from_secret(bytes),
            public: None,
        })
    }

    fn pair(text: &str, algorithm: Algorithm) -> Result<Self, KeyFault> {
        let (pem, jwa) = (private_block(text, algorithm)?, jwa(algorithm)?);
        let (encoding, needed) = match algorithm {
            Algorithm::Es256 => (ec(&P256, &pem), "a key of the curve P-256"),
            Algorithm::Es384 => (ec(&P384, &pem), "a key of the curve P-384"),
            Algorithm::EdDsa => (ed(&pem), "an Ed25519 key"),
            // The library does not read keys of the type RSA-PSS; PS256 uses the same keys as RS256.
            _ => (
                EncodingKey::from_rsa_pem(pem::encode(&pem).as_bytes()).ok(),
                "an RSA key of 2048 to 8192 bits (`openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048` makes one)",
            ),
        };
        let wrong = || KeyFault(format!("is not {needed}, which {} needs", algorithm.name()));
        let encoding = encoding.ok_or_else(wrong)?;
        let mut public = Jwk::from_encoding_key(&encoding, jwa).map_err(|_| wrong())?;
        let decoding = DecodingKey::from_jwk(&public).map_err(|_| wrong())?;
        // RFC 7638: every program that has the key computes the same `kid`.
        let kid = public.thumbprint(ThumbprintHash::SHA256).map_err(|_| wrong())?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { kid, algorithm, jwa, encoding, decoding, public: Some(public) })
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<String, Error> {
        crypto::sign(message, &self.encoding, self.jwa)
    }

    pub(crate) fn verifies(&self, signature: &str, message: &[u8]) -> bool {
        crypto::verify(signature, message, &self.decoding, self.jwa).unwrap_or(false)
    }

    /// A public key alone.
    #[cfg(test)]
    pub(crate) fn verifying(algorithm: Algorithm, decoding: DecodingKey) -> Self {
        let (encoding, jwa) = (EncodingKey::from_secret(&[]), jwa(algorithm).unwrap());
        Self { kid: String::new(), algorithm, jwa, encoding, decoding, public: None }
    }

    /// Checks that `text` is the public half of this key: what `jwt.verifying_key` must be.
    pub fn check_public_half(&self, text: &SecretString) -> Result<(), KeyFault> {
        let text = text.expose_secret();
        let mine = self.public.as_ref().ok_or("has no meaning with a shared secret")?;
        if blocks(text, self.algorithm)?.iter().any(|block| block.tag().ends_with("PRIVATE KEY")) {
            return Err("is a private key, and the public half belongs here".into());
        }
        let parse = match self.algorithm {
            Algorithm::Es256 | Algorithm::Es384 => DecodingKey::from_ec_pem,
            Algorithm::EdDsa => DecodingKey::from_ed_pem,
            _ => DecodingKey::from_rsa_pem,
        };
        let theirs = parse(text.as_bytes()).and_then(|key| Jwk::from_decoding_key(&key, Some(self.jwa)));
        match theirs {
            Err(_) => Err(KeyFault(format!("is not a public key for {}", self.algorithm.name()))),
            Ok(theirs) if theirs.algorithm == mine.algorithm => Ok(()),
            Ok(_) => Err("is not the public half of the signing key, whose tokens it could not verify".into()),
        }
    }
}

/// A key for tokens of one `typ`, which keeps the kinds of token apart (RFC 8725 §3.11).
#[derive(Clone)]
pub(crate) struct TokenKey {
    pub signing: SigningKey,
    pub typ: &'static str,
    /// The encoded header of its tokens: algorithm, `kid` and `typ`.
    pub header: String,
}

impl TokenKey {
    pub fn new(signing: SigningKey, typ: &'static str) -> Self {
        let header = json!({ "alg": signing.algorithm().name(), "kid": signing.kid(), "typ": typ });
        Self { header: URL_SAFE_NO_PAD.encode(header.to_string()), typ, signing }
    }
}

/// An RSA key has one `kid` for all its algorithms, but a header for each.
impl PartialEq for TokenKey {
    fn eq(&self, other: &Self) -> bool {
        self.header == other.header
    }
}

/// Whether a key was published by documentation, examples or generators, or consists of words that attackers try first.
fn is_guessable(key: &str) -> bool {
    const PUBLISHED: &[&str] = &[
        "a-string-secret-at-least-256-bits-long",
        "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    ];
    const WORDS: &[&str] =
        &["changeme", "change", "me", "secret", "password", "your", "my", "jwt", "key", "bit", "production", "in"];
    let key = key.trim().to_lowercase();
    if PUBLISHED.contains(&key.as_str()) || key.starts_with("django-insecure-") {
        return true;
    }
    let letters: String = key.chars().filter(|c| c.is_alphabetic()).collect();
    !letters.is_empty() && WORDS.iter().fold(letters, |rest, word| rest.replace(word, "")).is_empty()
}

/// Whether a secret has so few different characters that it is not random.
pub fn is_monotonous(key: &SecretString) -> bool {
    key.expose_secret().chars().collect::<HashSet<_>>().len() < 8
}

fn unusable(algorithm: Algorithm) -> KeyFault {
    KeyFault(format!("cannot sign and verify {}", algorithm.name()))
}

fn jwa(algorithm: Algorithm) -> Result<Jwa, KeyFault> {
    algorithm.name().parse().map_err(|_| unusable(algorithm))
}

fn blocks(text: &str, algorithm: Algorithm) -> Result<Vec<Pem>, KeyFault> {
    let blocks = pem::parse_many(text).ok().filter(|blocks| !blocks.is_empty());
    blocks.ok_or_else(|| KeyFault(format!("is not PEM, which {} needs", algorithm.name())))
}

fn private_block(text: &str, algorithm: Algorithm) -> Result<Pem, KeyFault> {
    let mut private = blocks(text, algorithm)?.into_iter().filter(|block| block.tag().ends_with("PRIVATE KEY"));
    let block = private.next().ok_or("is a public key or a certificate, and the private key belongs here")?;
    if private.next().is_some() {
        return Err("holds more than one private key".into());
    }
    if block.tag() == "ENCRYPTED PRIVATE KEY" || block.headers().iter().any(|(name, _)| name == "DEK-Info") {
        return Err("is encrypted; `openssl pkey` decrypts it".into());
    }
    match block.tag() {
        "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Ok(block),
        _ => Err("is in another format; `ssh-keygen -p -m PKCS8` or `openssl pkey` converts it to PEM".into()),
    }
}

/// jsonwebtoken reads EC keys in PKCS#8 only.
fn ec(curve: &'static EcdsaSigningAlgorithm, pem: &Pem) -> Option<EncodingKey> {
    let pair = EcdsaKeyPair::from_private_key_der(curve, pem.contents()).ok()?;
    Some(EncodingKey::from_ec_der(pair.to_pkcs8v1().ok()?.as_ref()))
}

/// jsonwebtoken reads version 1 of PKCS#8 only.
fn ed(pem: &Pem) -> Option<EncodingKey> {
    let pair = Ed25519KeyPair::from_pkcs8(pem.contents()).ok()?;
    Some(EncodingKey::from_ed_der(pair.to_pkcs8v1().ok()?.as_ref()))
}

/// Generates a key in the format of a key file: PKCS#8 in PEM (RSA of 2048 bits), or 512 random bits in base64url.
pub fn generate(algorithm: Algorithm) -> Result<SecretString, KeyFault> {
    if algorithm.secret_length().is_some() {
        return Ok(URL_SAFE_NO_PAD.encode(random::<64>()).into());
    }
    let pkcs8 = || match algorithm {
        Algorithm::Es256 => Ok(EcdsaKeyPair::generate(&P256)?.to_pkcs8v1()?.as_ref().to_vec()),
        Algorithm::Es384 => Ok(EcdsaKeyPair::generate(&P384)?.to_pkcs8v1()?.as_ref().to_vec()),
        Algorithm::EdDsa => Ok(Ed25519KeyPair::generate()?.to_pkcs8v1()?.as_ref().to_vec()),
        _ => Ok(RsaKeyPair::generate(KeySize::Rsa2048)?.as_der()?.as_ref().to_vec()),
    };
    let der = pkcs8().map_err(|_: Unspecified| KeyFault("cannot be generated".to_owned()))?;
    Ok(pem::encode(&Pem::new("PRIVATE KEY", der)).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_generated_key_signs_and_verifies_and_has_one_kid() {
        for algorithm in Algorithm::all() {
            let text = generate(algorithm).unwrap();
            let [key, again] = [(); 2].map(|()| SigningKey::parse(&text, algorithm).unwrap());
            assert_eq!(key.kid, again.kid, "{algorithm:?}");
            let signature = key.sign(b"a").unwrap();
            assert!(again.verifies(&signature, b"a") && !again.verifies(&signature, b"b"), "{algorithm:?}");
            let other = SigningKey::parse(&generate(algorithm).unwrap(), algorithm).unwrap();
            assert!(other.kid != key.kid && !other.verifies(&signature, b"a"), "{algorithm:?}");
        }
    }

    #[test]
    fn a_key_that_does_not_fit_its_algorithm_is_refused_with_the_reason() {
        let of = |algorithm| generate(algorithm).unwrap().expose_secret().to_owned();
        let (rsa, ec, ed) = (of(Algorithm::Rs256), of(Algorithm::Es256), of(Algorithm::EdDsa));
        let relabelled = |text: &str, tag: &str| text.replace("PRIVATE KEY", tag);
        let lines: Vec<&str> = rsa.lines().collect();
        let cut = [&lines[..5], &lines[lines.len() - 1..]].concat().join("\n");
        let rows = [
            ("", Algorithm::Hs256, "at least 32 bytes"),
            (&"a".repeat(31), Algorithm::Hs256, "at least 32 bytes"),
            (&"a".repeat(47), Algorithm::Hs384, "at least 48 bytes"),
            (&"a".repeat(63), Algorithm::Hs512, "at least 64 bytes"),
            (&rsa, Algorithm::Hs256, "is PEM"),
            (&format!("\n  {ec}"), Algorithm::Hs256, "is PEM"),
            (
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
                Algorithm::Hs256,
                "another form",
            ),
            ("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTY", Algorithm::Hs256, "another form"),
            (
                r#" {"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75"}"#,
                Algorithm::Hs512,
                "another form",
            ),
            (&"a".repeat(64), Algorithm::Rs256, "is not PEM"),
            ("", Algorithm::EdDsa, "is not PEM"),
            (&ec, Algorithm::Rs256, "is not an RSA key"),
            (&ed, Algorithm::Ps512, "is not an RSA key"),
            (&rsa, Algorithm::Es256, "curve P-256"),
            (&ed, Algorithm::Es256, "curve P-256"),
            (&of(Algorithm::Es384), Algorithm::Es256, "curve P-256"),
            (&ec, Algorithm::Es384, "curve P-384"),
            (&ec, Algorithm::EdDsa, "an Ed25519 key"),
            (&rsa, Algorithm::EdDsa, "an Ed25519 key"),
            (&relabelled(&rsa, "PUBLIC KEY"), Algorithm::Rs256, "the private key belongs here"),
            (&relabelled(&ec, "CERTIFICATE"), Algorithm::Es256, "the private key belongs here"),
            (&relabelled(&rsa, "ENCRYPTED PRIVATE KEY"), Algorithm::Rs256, "is encrypted"),
            (&relabelled(&ed, "OPENSSH PRIVATE KEY"), Algorithm::EdDsa, "ssh-keygen"),
            (&cut, Algorithm::Rs256, "RSA key"),
            (&format!("{rsa}{rsa}"), Algorithm::Rs256, "more than one private key"),
            (&format!("{ec}{rsa}"), Algorithm::Rs256, "more than one private key"),
            (include_str!("../../tests/interop/keys/rsa-1024.pem"), Algorithm::Rs256, "2048"),
            (include_str!("../../tests/interop/keys/rsa-1024-pkcs1.pem"), Algorithm::Ps256, "2048"),
            (include_str!("../../tests/interop/keys/secp256k1.pem"), Algorithm::Es256, "curve P-256"),
        ];
        for (text, algorithm, reason) in rows {
            let fault = SigningKey::parse(&text.into(), algorithm).err().map(|fault| fault.0).unwrap_or_default();
            assert!(fault.contains(reason), "{algorithm:?} {reason}: {fault:?}");
        }
    }

    /// Each form that OpenSSL and others write, with the public half that they wrote.
    #[test]
    fn every_common_form_of_a_key_is_read() {
        macro_rules! key {
            ($name:literal) => {
                (concat!("tests/interop/keys/", $name), include_str!(concat!("../../tests/interop/keys/", $name)))
            };
        }
        let rows = [
            (key!("rsa-pkcs8.pem"), Algorithm::Rs256, key!("rsa-public.pem")),
            (key!("rsa-pkcs1.pem"), Algorithm::Ps384, key!("rsa-public.pem")),
            (key!("rsa-pkcs1.pem"), Algorithm::Rs512, key!("rsa-public-pkcs1.pem")),
            (key!("p256-pkcs8.pem"), Algorithm::Es256, key!("p256-public.pem")),
            (key!("p256-sec1.pem"), Algorithm::Es256, key!("p256-public.pem")),
            (key!("p256-sec1-with-parameters.pem"), Algorithm::Es256, key!("p256-public.pem")),
            (key!("p384-pkcs8.pem"), Algorithm::Es384, key!("p384-public.pem")),
            (key!("p384-sec1.pem"), Algorithm::Es384, key!("p384-public.pem")),
            (key!("ed25519-pkcs8.pem"), Algorithm::EdDsa, key!("ed25519-public.pem")),
        ];
        for ((name, private), algorithm, (public_name, public)) in rows {
            let key = SigningKey::parse(&private.into(), algorithm);
            let key = key.unwrap_or_else(|fault| panic!("{name}: {fault}"));
            key.check_public_half(&public.into()).unwrap_or_else(|fault| panic!("{public_name}: {fault}"));
            let other = generate(algorithm).unwrap();
            let other = SigningKey::parse(&other, algorithm).unwrap();
            assert!(
                other.check_public_half(&public.into()).unwrap_err().0.contains("is not the public half"),
                "{name}"
            );
            assert!(key.check_public_half(&private.into()).unwrap_err().0.contains("is a private key"), "{name}");
            assert!(key.check_public_half(&"junk".into()).is_err(), "{name}");
            // With the line ends of Windows, and with white space around.
            SigningKey::parse(&format!("\n{}\n\n", private.replace('\n', "\r\n")).into(), algorithm).unwrap();
        }
    }

    /// PKCS#8 version 2 (RFC 5958) has the public key as well; libraries such as ring write it.
    #[test]
    fn an_ed25519_key_in_version_2_of_pkcs8_is_read() {
        let der = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap().as_ref().to_vec();
        SigningKey::parse(&pem::encode(&Pem::new("PRIVATE KEY", der)).into(), Algorithm::EdDsa).unwrap();
    }

    proptest! {
        /// Also for keys with one character changed; and no fault repeats the key.
        #[test]
        fn parsing_never_panics(text in any::<String>(), place in any::<prop::sample::Index>(), other in "[ -~]", which in 0..9_usize) {
            let pems = [
                include_str!("../../tests/interop/keys/rsa-pkcs1.pem"),
                include_str!("../../tests/interop/keys/p256-sec1.pem"),
                include_str!("../../tests/interop/keys/ed25519-pkcs8.pem"),
            ];
            let pem = pems[which % 3];
            let place = place.index(pem.len());
            let changed = format!("{}{other}{}", &pem[..place], &pem[place + 1..]);
            for text in [text, changed] {
                for algorithm in Algorithm::all() {
                    let parsed = SigningKey::parse(&text.as_str().into(), algorithm);
                    let repeats = |fault: KeyFault| text.len() > 40 && fault.0.contains(&text);
                    prop_assert!(!parsed.err().is_some_and(repeats));
                }
            }
        }
    }
}
