//! The test vectors of C2SP's Wycheproof for [`SigningKey::verifies`], the one function that checks signatures. The messages
//! of the vectors are not tokens, so they cannot be sent to the service.

use super::SigningKey;
use crate::domain::Algorithm;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use wycheproof::{TestResult, ecdsa, eddsa, mac, rsa_pkcs1_verify, rsa_pss_verify};

struct Vector {
    key: SigningKey,
    message: Vec<u8>,
    signature: Vec<u8>,
    result: TestResult,
    id: usize,
    comment: String,
}

fn check(file: &str, vectors: &[Vector]) {
    let (mut accepted, mut refused, mut either, mut different) = (0, 0, 0, 0);
    for vector in vectors {
        let verifies = vector.key.verifies(&URL_SAFE_NO_PAD.encode(&vector.signature), &vector.message);
        // Truncated tags are valid for a MAC and not for a token (RFC 7518 §3.2).
        let is_short = vector.key.algorithm().secret_length().is_some_and(|length| vector.signature.len() < length);
        let expected = match vector.result {
            TestResult::Valid if is_short => {
                different += 1;
                false
            }
            TestResult::Valid => {
                accepted += 1;
                true
            }
            TestResult::Invalid => {
                refused += 1;
                false
            }
            // Old forms that a verifier may accept or refuse.
            TestResult::Acceptable => {
                either += 1;
                verifies
            }
        };
        assert_eq!(verifies, expected, "{file} {}: {}", vector.id, vector.comment);
    }
    println!(
        "{file}: {accepted} valid accepted, {refused} invalid refused, {either} acceptable, {different} different"
    );
    assert!(accepted + different > 0 && refused > 0, "{file}");
}

/// The vectors of a set whose groups have a key.
macro_rules! vectors {
    ($module:ident, $name:ident, $algorithm:expr, |$group:ident| $key:expr) => {{
        let set = $module::TestSet::load($module::TestName::$name).unwrap();
        let of_group = |$group: &$module::TestGroup| {
            let key = SigningKey::verifying($algorithm, $key);
            let of_test = |test: &$module::Test| Vector {
                key: key.clone(),
                message: test.msg.to_vec(),
                signature: test.sig.to_vec(),
                result: test.result,
                id: test.tc_id,
                comment: test.comment.clone(),
            };
            $group.tests.iter().map(of_test).collect::<Vec<_>>()
        };
        set.test_groups.iter().flat_map(of_group).collect::<Vec<_>>()
    }};
}

#[test]
fn ecdsa_signatures_agree_with_the_vectors() {
    let p256 =
        vectors!(ecdsa, EcdsaSecp256r1Sha256P1363, Algorithm::Es256, |group| DecodingKey::from_ec_der(&group.key.key));
    check("ecdsa_secp256r1_sha256_p1363", &p256);
    let p384 =
        vectors!(ecdsa, EcdsaSecp384r1Sha384P1363, Algorithm::Es384, |group| DecodingKey::from_ec_der(&group.key.key));
    check("ecdsa_secp384r1_sha384_p1363", &p384);
}

#[test]
fn eddsa_signatures_agree_with_the_vectors() {
    let ed25519 = vectors!(eddsa, Ed25519, Algorithm::EdDsa, |group| DecodingKey::from_ed_der(&group.key.pk));
    check("ed25519", &ed25519);
}

#[test]
fn rsa_signatures_agree_with_the_vectors() {
    macro_rules! rsa {
        ($module:ident, $($name:ident, $file:literal, $algorithm:expr;)*) => {$(
            let vectors = vectors!($module, $name, $algorithm, |group| DecodingKey::from_rsa_der(&group.asn_key));
            check($file, &vectors);
        )*};
    }
    rsa! { rsa_pkcs1_verify,
        Rsa2048Sha256, "rsa_signature_2048_sha256", Algorithm::Rs256;
        Rsa2048Sha384, "rsa_signature_2048_sha384", Algorithm::Rs384;
        Rsa2048Sha512, "rsa_signature_2048_sha512", Algorithm::Rs512;
        Rsa4096Sha256, "rsa_signature_4096_sha256", Algorithm::Rs256;
    }
    rsa! { rsa_pss_verify,
        RsaPss2048Sha256Mgf1SaltLen32, "rsa_pss_2048_sha256_mgf1_32", Algorithm::Ps256;
        RsaPss2048Sha384Mgf1SaltLen48, "rsa_pss_2048_sha384_mgf1_48", Algorithm::Ps384;
        RsaPss4096Sha512Mgf1SaltLen64, "rsa_pss_4096_sha512_mgf1_64", Algorithm::Ps512;
    }
}

#[test]
fn hmac_tags_agree_with_the_vectors() {
    macro_rules! hmac {
        ($($name:ident, $file:literal, $algorithm:expr;)*) => {$(
            let set = mac::TestSet::load(mac::TestName::$name).unwrap();
            let of_test = |test: &mac::Test| Vector {
                key: SigningKey::verifying($algorithm, DecodingKey::from_secret(&test.key)),
                message: test.msg.to_vec(),
                signature: test.tag.to_vec(),
                result: test.result,
                id: test.tc_id,
                comment: test.comment.clone(),
            };
            let vectors: Vec<_> = set.test_groups.iter().flat_map(|group| group.tests.iter().map(of_test)).collect();
            check($file, &vectors);
        )*};
    }
    hmac! {
        HmacSha256, "hmac_sha256", Algorithm::Hs256;
        HmacSha384, "hmac_sha384", Algorithm::Hs384;
        HmacSha512, "hmac_sha512", Algorithm::Hs512;
    }
}
