//! `GET /.well-known/jwks.json`: every algorithm, and attacks with a public key

use crate::support::{
    all,
    keys::{PAIRS, algorithms, key_set, kid, signing_with},
    token::{sign_with, take_apart},
};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, Validation, decode, jwk::JwkSet};
use serde_json::{Value, json};
use signet::domain::Algorithm;

#[tokio::test]
async fn the_key_set_verifies_the_tokens_of_every_algorithm() {
    let mut count = 0;
    for (algorithm, key) in algorithms() {
        let app = signing_with(algorithm, key, &[("JWT__ROTATE_REFRESH_TOKENS", "true")]).await;
        let ann = app.user().await;
        assert_eq!(ann.actor.get("/auth/users/me").await.status, 200, "{algorithm}");
        let header = take_apart(&ann.access).header;
        assert_eq!((&header["alg"], &header["typ"]), (&json!(algorithm), &json!("at+jwt")));
        assert_eq!(take_apart(&ann.refresh).header["alg"], "HS256", "only Signet verifies refresh tokens");

        let reply = app.anon().get("/.well-known/jwks.json").await;
        assert_eq!((reply.status, reply.header("cache-control")), (200, "public, max-age=60"));
        let keys = reply.json["keys"].as_array().unwrap();
        if algorithm.starts_with("HS") {
            assert_eq!(reply.text, "{\"keys\":[]}");
        } else {
            assert_eq!((keys.len(), &keys[0]["kid"]), (1, &header["kid"]), "{algorithm}");
            assert_eq!((&keys[0]["alg"], &keys[0]["use"]), (&json!(algorithm), &json!("sig")));
            let members: Vec<&str> = keys[0].as_object().unwrap().keys().map(String::as_str).collect();
            let expected: &[&str] = match &algorithm[..2] {
                "ES" => &["alg", "crv", "kid", "kty", "use", "x", "y"],
                "Ed" => &["alg", "crv", "kid", "kty", "use", "x"],
                _ => &["alg", "e", "kid", "kty", "n", "use"],
            };
            assert_eq!(members, expected, "no private and no unneeded member");
            let set: JwkSet = serde_json::from_value(reply.json.clone()).unwrap();
            let mut validation = Validation::new(algorithm.parse().unwrap());
            validation.validate_aud = false;
            let key = DecodingKey::from_jwk(set.find(&kid(&ann.access)).unwrap()).unwrap();
            assert_eq!(
                decode::<Value>(&ann.access, &key, &validation).unwrap().claims["sub"],
                json!(ann.id.to_string())
            );
        }

        // A retry gets the same pair, byte for byte unless the signature algorithm is randomised.
        app.advance(1);
        let [first, again] = [app.refresh(&ann.refresh).await.json, app.refresh(&ann.refresh).await.json];
        let token = |reply: &Value| reply["access_token"].as_str().unwrap().to_owned();
        assert_eq!(take_apart(&token(&first)).claims, take_apart(&token(&again)).claims, "{algorithm}");
        let is_random = algorithm.starts_with("ES") || algorithm.starts_with("PS");
        assert_eq!(token(&first) == token(&again), !is_random, "{algorithm}");
        assert_eq!(first["refresh_token"], again["refresh_token"]);
        count += 1;
    }
    println!("algorithms: {count}");
    assert_eq!(count, Algorithm::all().count());
}

/// Encodings of a public key, each of which an attacker may use as the secret of an HMAC (RFC 8725 §2.1).
fn encodings(public: &str, jwk: &Value) -> Vec<(String, Vec<u8>)> {
    let der = pem::parse(public).unwrap().into_contents();
    let point = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap_or_default()).unwrap();
    let raw: Vec<u8> = [point("n"), point("x"), point("y")].concat();
    let mut rows = vec![
        ("PEM".to_owned(), public.as_bytes().to_vec()),
        ("PEM without the last line end".to_owned(), public.trim_end().as_bytes().to_vec()),
        ("PEM with Windows' line ends".to_owned(), public.replace('\n', "\r\n").into_bytes()),
        ("PEM with white space before".to_owned(), format!("\n \t{public}").into_bytes()),
        ("PEM without its first and last line".to_owned(), {
            let lines: Vec<&str> = public.lines().filter(|line| !line.starts_with('-')).collect();
            lines.concat().into_bytes()
        }),
        ("DER".to_owned(), der),
        ("JWK".to_owned(), jwk.to_string().into_bytes()),
        ("n, x and y alone".to_owned(), raw.clone()),
        ("an uncompressed point".to_owned(), [&[4][..], &raw].concat()),
        ("ssh".to_owned(), format!("ssh-ed25519 {}", URL_SAFE_NO_PAD.encode(&raw)).into_bytes()),
        ("kid".to_owned(), jwk["kid"].as_str().unwrap().as_bytes().to_vec()),
    ];
    for member in ["n", "x", "e"] {
        let text = jwk[member].as_str().unwrap_or_default().as_bytes().to_vec();
        rows.push((format!("the text of {member}"), text));
    }
    rows
}

#[tokio::test]
async fn tokens_forged_with_a_public_key_or_a_changed_header_are_refused() {
    // A verifier that fetches a key from a URL in the token would connect here.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let elsewhere = listener.local_addr().unwrap();
    let mut replies = Vec::new();
    for (algorithm, private, public) in PAIRS {
        let app = signing_with(algorithm, private, &[]).await;
        let ann = app.user().await;
        let jwk = key_set(&app).await["keys"][0].clone();
        let parts = take_apart(&ann.access);
        let mut rows = Vec::new();
        let hashes = [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];
        for (name, key) in encodings(public, &jwk) {
            for (hs, hash) in hashes {
                for alg in [hs, algorithm] {
                    let mut header = parts.header.clone();
                    header["alg"] = alg.into();
                    let token = sign_with(hash, &header.to_string(), &parts.claims.to_string(), &key);
                    rows.push((format!("{hs} keyed with {name}, alg {alg}"), token));
                }
            }
        }
        // The valid signature and no signature, each under every algorithm name.
        let [_, claims, signature] = ann.access.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        for name in Algorithm::all().map(Algorithm::name).chain(["none", "None", "NONE", "nOnE", "ES256K", ""]) {
            let mut header = parts.header.clone();
            header["alg"] = name.into();
            let header = URL_SAFE_NO_PAD.encode(header.to_string());
            if name != *algorithm {
                rows.push((format!("the right signature, alg {name}"), format!("{header}.{claims}.{signature}")));
            }
            rows.push((format!("no signature, alg {name}"), format!("{header}.{claims}.")));
        }
        // Degenerate and damaged signatures, and another encoding of a valid one.
        let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let message = ann.access.rsplit_once('.').unwrap().0;
        let half = bytes.len() / 2;
        for (name, bytes) in [
            ("zeros", vec![0; bytes.len()]),
            ("ones", vec![0xff; bytes.len()]),
            ("r = 0", [&vec![0; half][..], &bytes[half..]].concat()),
            ("s = 0", [&bytes[..half], &vec![0; half][..]].concat()),
            ("r and s swapped", [&bytes[half..], &bytes[..half]].concat()),
            ("truncated", bytes[..bytes.len() - 1].to_vec()),
            ("an extra byte at the end", [&bytes[..], &[0]].concat()),
            ("an extra byte at the start", [&[0], &bytes[..]].concat()),
            ("doubled", [&bytes[..], &bytes[..]].concat()),
            ("empty", vec![]),
        ] {
            rows.push((name.to_owned(), format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes))));
        }
        for bit in [0, bytes.len() * 8 / 2, bytes.len() * 8 - 1] {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            rows.push((format!("bit {bit} flipped"), format!("{message}.{}", URL_SAFE_NO_PAD.encode(flipped))));
        }
        rows.push(("padded".to_owned(), format!("{}==", ann.access)));
        // A token that names its own key.
        for (name, value) in [
            ("jwk", jwk.clone()),
            ("jku", json!(format!("http://{}/.well-known/jwks.json", app.address))),
            ("jku", json!(format!("http://{elsewhere}/jwks.json"))),
            ("x5u", json!(format!("http://{elsewhere}/cert.pem"))),
            ("kid", json!(format!("http://{elsewhere}/key"))),
            ("x5c", json!(["MIIB"])),
            ("crit", json!(["exp"])),
        ] {
            let mut header = parts.header.clone();
            header[name] = value;
            let header = URL_SAFE_NO_PAD.encode(header.to_string());
            rows.push((format!("with {name} in the header"), format!("{header}.{claims}.{signature}")));
        }
        for (name, token) in rows {
            let reply = app.bearer(&token).get("/auth/verify").await;
            replies.push((format!("{algorithm}: {name}"), reply));
        }
        assert_eq!(app.verify(&ann.access).await, 200, "{algorithm}: the valid token still works");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "the service fetches no key");
    all(
        "tokens against key pairs",
        &replies,
        |(name, _)| name.clone(),
        |(_, reply)| {
            ((reply.status, reply.code()) != (401, "invalid-token")).then(|| format!("{} {}", reply.status, reply.text))
        },
    );
}

/// If (r, s) is a valid ECDSA signature, so is (r, -s): the end of the session must end both forms of the token.
#[tokio::test]
async fn a_second_form_of_an_ecdsa_signature_ends_with_its_session() {
    let app = signing_with("ES256", include_str!("../interop/keys/p256-pkcs8.pem"), &[]).await;
    let ann = app.user().await;
    let (message, signature) = ann.access.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..64).step_by(2).map(|at| u8::from_str_radix(&order[at..at + 2], 16).unwrap()).collect();
    let mut other = bytes.clone();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(bytes[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        other[32 + at] = u8::try_from(difference + borrow * 256).unwrap();
    }
    let other = format!("{message}.{}", URL_SAFE_NO_PAD.encode(other));
    assert_ne!(other, ann.access);
    assert_eq!((app.verify(&ann.access).await, app.verify(&other).await), (200, 200));
    app.sign_out(&ann.refresh).await;
    assert_eq!((app.verify(&ann.access).await, app.verify(&other).await), (401, 401));
}

#[tokio::test]
async fn a_restart_keeps_keys_and_key_ids() {
    let app = signing_with("EdDSA", PAIRS[8].1, &[]).await;
    let ann = app.user().await;
    let before = key_set(&app).await;
    let app = app.restart(&[("JWT__ALGORITHM", "EdDSA"), ("JWT__SIGNING_KEY", PAIRS[8].1)]).await;
    assert_eq!(key_set(&app).await, before);
    assert_eq!(app.verify(&ann.access).await, 200);
}
