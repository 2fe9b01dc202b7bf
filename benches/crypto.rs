//! The time of a password hash on one thread, and of minting and verifying a token with each algorithm. Takes seconds, so
//! run it while you change the code; `scripts/bench` measures the whole service.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, clippy::cast_precision_loss, reason = "a benchmark")]

use argon2_rust::{Argon2, Params, Version};
use signet::{
    domain::{
        Algorithm, Email, Name, RefreshToken, Seconds, SessionId, Timestamp, User, UserId, UserIdField, Username,
    },
    keys::{Activation, KeyRing, SigningKey, generate},
    tokens::{Expected, Grant, Issuer, Keys, RefreshKeys, TokenNames, Tokens},
};
use std::{hint::black_box, time::Instant};

const NOW: Timestamp = Timestamp(1_795_000_000);

/// Microseconds for each call, the minimum of five runs.
fn microseconds(calls: usize, mut work: impl FnMut()) -> f64 {
    let mut run = || {
        let began = Instant::now();
        (0..calls).for_each(|_| work());
        began.elapsed().as_secs_f64() * 1e6 / calls as f64
    };
    (0..5).map(|_| run()).fold(f64::INFINITY, f64::min)
}

/// Argon2id with the default parameters, in both crates.
fn hashes() {
    let (password, salt, mut tag) = (b"correct horse", [7; 16], [0; 32]);
    let reference = argon2::Params::new(19_456, 2, 1, Some(32)).unwrap();
    let mut memory = vec![argon2::Block::new(); reference.block_count()];
    let reference = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, reference);
    let reference = microseconds(20, || {
        reference.hash_password_into_with_memory(password, &salt, &mut tag, &mut memory).unwrap();
        black_box(tag);
    });
    let mut hasher = Argon2::new(argon2_rust::Algorithm::Argon2id, Version::V0x13, Params::DEFAULT).hasher();
    let argon2_rust_time = microseconds(20, || {
        hasher.hash_into(password, &salt, &mut tag).unwrap();
        black_box(tag);
    });
    println!("{:<12} {:>8} {:>10} {:>8}", "Argon2id", "ms", "hashes/s", "times");
    for (name, time) in [("argon2", reference), ("argon2-rust", argon2_rust_time)] {
        println!("{name:<12} {:>8.2} {:>10.0} {:>8.2}", time / 1e3, 1e6 / time, reference / time);
    }
    println!("argon2-rust uses {}", argon2_rust::detected_backend());
}

fn tokens(algorithm: Algorithm) -> Tokens {
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
    let key = SigningKey::parse(&generate(algorithm).unwrap(), algorithm).unwrap();
    let ring = KeyRing::new("at+jwt", vec![(key, Activation::ALWAYS)]).unwrap();
    let refresh = RefreshKeys::new(&generate(Algorithm::Hs256).unwrap(), None).unwrap();
    Tokens::new(issuer, Keys::new(ring, refresh, NOW).unwrap())
}

fn user() -> User {
    let email = Email::parse("ann@example.com").unwrap();
    User {
        id: UserId(1),
        username: Username::of_email(&email),
        email,
        first_name: Name::default(),
        last_name: Name::default(),
        is_active: true,
        is_staff: false,
        is_superuser: false,
        is_verified: false,
        created_at: NOW,
        last_login: None,
        claims: serde_json::Map::new(),
    }
}

fn main() {
    hashes();
    let (user, session) = (user(), SessionId::from_random([7; 16]));
    println!("\n{:<10} {:>14} {:>14}", "access", "mint, µs", "verify, µs");
    for algorithm in Algorithm::all() {
        let tokens = tokens(algorithm);
        let grant = Grant { user: &user, session, session_end: NOW + Seconds(1000), audience: None };
        let mint = || tokens.mint_access(&grant, NOW).unwrap().0;
        let calls = if algorithm.name().contains("S256") && algorithm.name() != "HS256" { 200 } else { 1000 };
        let minted = microseconds(calls, || drop(black_box(mint())));
        let token = mint();
        let verified = microseconds(calls, || {
            drop(black_box(tokens.verify_access(&token, Expected::Audience(None), NOW).unwrap()));
        });
        println!("{:<10} {minted:>14.1} {verified:>14.1}", algorithm.name());
    }
    let tokens = tokens(Algorithm::Hs256);
    let token = RefreshToken { user: user.id, session, generation: 3, issued_at: NOW, expires_at: NOW + Seconds(100) };
    let minted = microseconds(1000, || drop(black_box(tokens.mint_refresh(&token).unwrap())));
    let text = tokens.mint_refresh(&token).unwrap();
    let verified = microseconds(1000, || {
        black_box(tokens.verify_refresh(&text, NOW).unwrap());
    });
    println!("{:<10} {minted:>14.1} {verified:>14.1}", "refresh");
}
