//! Keys that sign tokens: a shared secret or a key pair, bound to one algorithm (RFC 8725 §3.1).
//!
//! This file has the single key, `ring` the states of several, `files` the folder that they are kept in. Nothing here
//! knows tokens, users or settings.

pub mod files;
mod ring;
#[cfg(test)]
mod vectors;

pub use ring::{Activation, KeyRing, KeyState, MAX_AGE, PUBLISHED_BEFORE, RingKey};

use crate::domain::Algorithm;
use aws_lc_rs::{
    encoding::AsDer,
    hmac,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey, EncodingKey, crypto,
    errors::Error,
    jwk::{Jwk, PublicKeyUse, ThumbprintHash},
};
use pem::Pem;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::collections::HashSet;

/// Long enough keys that documentation, examples and generators have published.
const KNOWN_KEYS: &[&str] = &[
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
];

/// Why something is not a key for its algorithm. Says what would be right, and nothing of the key.
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
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// What the key set says of it; `None` for a shared secret, which is not published.
    pub(crate) public: Option<Jwk>,
}

impl SigningKey {
    /// Reads a key as a setting or a file has it: PEM (PKCS#8, PKCS#1 or SEC1), or the bytes of a secret.
    ///
    /// # Errors
    /// When it is too weak, of another kind than the algorithm needs, public, encrypted, or no key at all.
    pub fn parse(text: &SecretString, algorithm: Algorithm) -> Result<Self, KeyFault> {
        let key = match algorithm.secret_length() {
            Some(length) => Self::secret(text, algorithm, length)?,
            None => Self::pair(text.expose_secret(), algorithm)?,
        };
        // A key that cannot sign is refused now, not at the first sign-in.
        let probe = key.sign(b"probe").ok().filter(|signature| key.verifies(signature, b"probe"));
        probe.map(|_| key).ok_or_else(|| KeyFault(format!("is a key that cannot sign and verify {}", algorithm.name())))
    }

    fn secret(text: &SecretString, algorithm: Algorithm, length: usize) -> Result<Self, KeyFault> {
        let name = algorithm.name();
        let text = text.expose_secret();
        if text.contains("-----BEGIN") {
            return Err(KeyFault(format!(
                "is PEM, and {name} needs a secret; set jwt.algorithm to what the key is for"
            )));
        }
        let is_ssh = ["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|kind| text.trim_start().starts_with(kind));
        if is_ssh || (text.trim_start().starts_with('{') && text.contains("\"kty\"")) {
            return Err(KeyFault(format!("is a key of another form, and {name} needs a secret that only Signet has")));
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
            // Follows from the key, so it needs no bookkeeping, and says no more of the key than a signature does.
            kid: URL_SAFE_NO_PAD.encode(&tag.as_ref()[..8]),
            algorithm,
            encoding: EncodingKey::from_secret(bytes),
            decoding: DecodingKey::from_secret(bytes),
            public: None,
        })
    }

    fn pair(text: &str, algorithm: Algorithm) -> Result<Self, KeyFault> {
        let name = algorithm.name();
        let blocks = blocks(text, algorithm)?;
        let mut private = blocks.iter().filter(|block| block.tag().ends_with("PRIVATE KEY"));
        let (first, second) = (private.next(), private.next());
        if second.is_some() {
            return Err("holds more than one private key".into());
        }
        let pem = match first.map(|block| (block.tag(), block)) {
            Some(("PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY", block)) => block,
            Some(("ENCRYPTED PRIVATE KEY", _)) => return Err("is encrypted; `openssl pkey` decrypts it".into()),
            Some(_) => {
                return Err("is in a form of its own; `ssh-keygen -p -m PKCS8` or `openssl pkey` makes it PEM".into());
            }
            None => return Err("is a public key or a certificate, and the private key belongs here".into()),
        };
        if pem.headers().iter().any(|(name, _)| name == "DEK-Info") {
            return Err("is encrypted; `openssl pkey` decrypts it".into());
        }
        let wrong = |what: &str| KeyFault(format!("is not {what}, which {name} needs"));
        // OpenSSL's RSA-PSS keys are none for the library, though PS256 needs no other keys than RS256.
        let no_rsa = |what: &str| {
            let how = "`openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048` makes one";
            KeyFault(format!("{what}, which {name} needs; {how}"))
        };
        let encoding = match algorithm {
            Algorithm::Es256 => {
                ec(&ECDSA_P256_SHA256_FIXED_SIGNING, pem).ok_or_else(|| wrong("a key of the curve P-256"))?
            }
            Algorithm::Es384 => {
                ec(&ECDSA_P384_SHA384_FIXED_SIGNING, pem).ok_or_else(|| wrong("a key of the curve P-384"))?
            }
            Algorithm::EdDsa => ed(pem).ok_or_else(|| wrong("an Ed25519 key"))?,
            _ => EncodingKey::from_rsa_pem(pem::encode(pem).as_bytes()).map_err(|_| no_rsa("is not an RSA key"))?,
        };
        let mut public = Jwk::from_encoding_key(&encoding, jwa(algorithm)).map_err(|_| match algorithm {
            Algorithm::EdDsa | Algorithm::Es256 | Algorithm::Es384 => KeyFault(format!("cannot be used with {name}")),
            // The library refuses what is shorter without saying so.
            _ => no_rsa("is not an RSA key of 2048 to 8192 bits"),
        })?;
        let failed = |_| KeyFault(format!("cannot be used with {name}"));
        let decoding = DecodingKey::from_jwk(&public).map_err(failed)?;
        // RFC 7638: every program that has the key computes the same name for it.
        let kid = public.thumbprint(ThumbprintHash::SHA256).map_err(failed)?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { kid, algorithm, encoding, decoding, public: Some(public) })
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<String, Error> {
        crypto::sign(message, &self.encoding, jwa(self.algorithm))
    }

    pub(crate) fn verifies(&self, signature: &str, message: &[u8]) -> bool {
        crypto::verify(signature, message, &self.decoding, jwa(self.algorithm)).unwrap_or(false)
    }

    /// A key that others have the private half of.
    #[cfg(test)]
    pub(crate) fn verifying(algorithm: Algorithm, decoding: DecodingKey) -> Self {
        let nothing = EncodingKey::from_secret(&[]);
        Self { kid: String::new(), algorithm, encoding: nothing, decoding, public: None }
    }

    /// Whether `text` is the public half of this key: what `jwt.verifying_key` must be.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_public_half(&self, text: &SecretString) -> Result<(), KeyFault> {
        let text = text.expose_secret();
        let mine = self.public.as_ref().ok_or("has no meaning with a shared secret")?;
        let blocks = blocks(text, self.algorithm)?;
        if blocks.iter().any(|block| block.tag().ends_with("PRIVATE KEY")) {
            return Err("is a private key, and the public half belongs here".into());
        }
        let text = text.as_bytes();
        let key = match self.algorithm {
            Algorithm::Es256 | Algorithm::Es384 => DecodingKey::from_ec_pem(text),
            Algorithm::EdDsa => DecodingKey::from_ed_pem(text),
            _ => DecodingKey::from_rsa_pem(text),
        };
        let theirs = key.and_then(|key| Jwk::from_decoding_key(&key, Some(jwa(self.algorithm))));
        let theirs = theirs.map_err(|_| KeyFault(format!("is not a public key for {}", self.algorithm.name())))?;
        if theirs.algorithm == mine.algorithm {
            Ok(())
        } else {
            Err("is not the public half of the signing key, whose tokens it could not verify".into())
        }
    }
}

/// A key for tokens of one `typ`, which keeps the kinds of token apart (RFC 8725 §3.11).
#[derive(Clone)]
pub(crate) struct TokenKey {
    pub signing: SigningKey,
    pub typ: &'static str,
    /// The encoded header of its tokens, which is always the same.
    pub header: String,
}

impl TokenKey {
    pub fn new(signing: SigningKey, typ: &'static str) -> Self {
        let header = json!({ "alg": signing.algorithm().name(), "kid": signing.kid(), "typ": typ });
        Self { header: URL_SAFE_NO_PAD.encode(header.to_string()), typ, signing }
    }
}

/// A published key, or one that repeats the words that attackers try first.
fn is_guessable(key: &str) -> bool {
    const WORDS: &[&str] =
        &["changeme", "change", "me", "secret", "password", "your", "my", "jwt", "key", "bit", "production", "in"];
    let key = key.trim().to_lowercase();
    if KNOWN_KEYS.contains(&key.as_str()) || key.starts_with("django-insecure-") {
        return true;
    }
    let letters: String = key.chars().filter(|c| c.is_alphabetic()).collect();
    !letters.is_empty() && WORDS.iter().fold(letters, |rest, word| rest.replace(word, "")).is_empty()
}

/// Whether a secret has so few different characters that it is not random.
pub fn is_monotonous(key: &SecretString) -> bool {
    key.expose_secret().chars().collect::<HashSet<_>>().len() < 8
}

fn blocks(text: &str, algorithm: Algorithm) -> Result<Vec<Pem>, KeyFault> {
    let blocks = pem::parse_many(text).ok().filter(|blocks| !blocks.is_empty());
    blocks.ok_or_else(|| KeyFault(format!("is not PEM, which {} needs", algorithm.name())))
}

fn ec(curve: &'static EcdsaSigningAlgorithm, pem: &Pem) -> Option<EncodingKey> {
    let pair = EcdsaKeyPair::from_private_key_der(curve, pem.contents()).ok()?;
    Some(EncodingKey::from_ec_der(pair.to_pkcs8v1().ok()?.as_ref()))
}

fn ed(pem: &Pem) -> Option<EncodingKey> {
    let pair = Ed25519KeyPair::from_pkcs8(pem.contents()).ok()?;
    Some(EncodingKey::from_ed_der(pair.to_pkcs8v1().ok()?.as_ref()))
}

/// The library's name for an algorithm.
fn jwa(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    use jsonwebtoken::Algorithm as Jwa;
    match algorithm {
        Algorithm::Hs256 => Jwa::HS256,
        Algorithm::Hs384 => Jwa::HS384,
        Algorithm::Hs512 => Jwa::HS512,
        Algorithm::Rs256 => Jwa::RS256,
        Algorithm::Rs384 => Jwa::RS384,
        Algorithm::Rs512 => Jwa::RS512,
        Algorithm::Ps256 => Jwa::PS256,
        Algorithm::Ps384 => Jwa::PS384,
        Algorithm::Ps512 => Jwa::PS512,
        Algorithm::Es256 => Jwa::ES256,
        Algorithm::Es384 => Jwa::ES384,
        Algorithm::EdDsa => Jwa::EdDSA,
    }
}

/// Makes a key as a file holds it: PKCS#8 in PEM (RSA of 2048 bits), or 512 random bits in base64url.
///
/// # Errors
/// When the library cannot, for want of memory or randomness.
pub fn generate(algorithm: Algorithm) -> Result<SecretString, KeyFault> {
    let failed = |_| KeyFault("cannot be made".to_owned());
    let der = match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
            return Ok(URL_SAFE_NO_PAD.encode(crate::random::random::<64>()).into());
        }
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
            pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
        }
        Algorithm::Es384 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).map_err(failed)?;
            pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
        }
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate().map_err(failed)?;
            pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
        }
        _ => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
            pair.as_der().map_err(failed)?.as_ref().to_vec()
        }
    };
    Ok(pem::encode(&Pem::new("PRIVATE KEY", der)).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whatever_is_generated_signs_and_verifies_and_has_one_name() {
        for algorithm in Algorithm::ALL {
            let text = generate(algorithm).unwrap();
            let [key, again] = [(); 2].map(|()| SigningKey::parse(&text, algorithm).unwrap());
            assert_eq!(key.kid, again.kid, "{algorithm:?}");
            let signature = key.sign(b"a").unwrap();
            assert!(again.verifies(&signature, b"a") && !again.verifies(&signature, b"b"), "{algorithm:?}");
            let other = SigningKey::parse(&generate(algorithm).unwrap(), algorithm).unwrap();
            assert!(other.kid != key.kid && !other.verifies(&signature, b"a"), "{algorithm:?}");
        }
    }

    /// Everything that is no key for an algorithm, and the reason that is given.
    #[test]
    fn a_key_that_does_not_fit_is_refused_with_the_reason() {
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

    /// Each form that OpenSSL and others write, against the public half that they wrote.
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

    proptest! {
        /// Neither a text nor a key of which something was changed makes it panic, and no fault repeats the key.
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), place in any::<prop::sample::Index>(), other in "[ -~]", which in 0..9_usize) {
            let pems = [
                include_str!("../../tests/interop/keys/rsa-pkcs1.pem"),
                include_str!("../../tests/interop/keys/p256-sec1.pem"),
                include_str!("../../tests/interop/keys/ed25519-pkcs8.pem"),
            ];
            let pem = pems[which % 3];
            let place = place.index(pem.len());
            let changed = format!("{}{other}{}", &pem[..place], &pem[place + 1..]);
            for text in [text, changed] {
                for algorithm in Algorithm::ALL {
                    let parsed = SigningKey::parse(&text.as_str().into(), algorithm);
                    let repeats = |fault: KeyFault| text.len() > 40 && fault.0.contains(&text);
                    prop_assert!(!parsed.err().is_some_and(repeats));
                }
            }
        }
    }
}
