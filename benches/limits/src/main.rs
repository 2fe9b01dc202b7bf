//! How many passwords a second a number of threads hash with `argon2-rust`, `argon2` and the C reference: `limits THREADS
//! SECONDS NAME…`. The libraries run in turn, three rounds, so a machine that slows down affects all of them. Prints the
//! medians as JSON.

use argon2::Block;
use argon2_rust::params::Memory;
use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

const MEMORY_KIB: u32 = 19_456;
const ITERATIONS: u32 = 2;
const SALT: &[u8; 16] = b"sixteen bytes...";
const ROUNDS: usize = 3;

const PASSWORD: &[u8] = b"correct horse";

/// Hashes once for each call.
fn hasher(name: &str) -> Box<dyn FnMut()> {
    match name {
        "argon2-rust" => {
            use argon2_rust::{Algorithm, Argon2, Params, Version};
            let params = Params::builder().memory(Memory::kib(MEMORY_KIB.into())).passes(ITERATIONS).lanes(1);
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.build().unwrap());
            let (mut hasher, mut tag) = (argon2.hasher(), [0; 32]);
            Box::new(move || {
                hasher.hash_into(PASSWORD, SALT, &mut tag).unwrap();
                black_box(tag);
            })
        }
        "argon2" => {
            use argon2::{Algorithm, Argon2, Params, Version};
            let params = Params::new(MEMORY_KIB, ITERATIONS, 1, Some(32)).unwrap();
            let (mut memory, mut tag) = (vec![Block::new(); params.block_count()], [0; 32]);
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            Box::new(move || {
                argon2.hash_password_into_with_memory(PASSWORD, SALT, &mut tag, &mut memory).unwrap();
                black_box(tag);
            })
        }
        "c" => {
            use argon2_kdf::{Algorithm, Hasher};
            let hasher = Hasher::new()
                .algorithm(Algorithm::Argon2id)
                .custom_salt(SALT)
                .hash_length(32)
                .iterations(ITERATIONS)
                .memory_cost_kib(MEMORY_KIB)
                .threads(1);
            Box::new(move || drop(black_box(hasher.clone().hash(PASSWORD).unwrap())))
        }
        _ => panic!("argon2-rust, argon2 or c, not {name}"),
    }
}

/// Hashes a second on `threads` threads.
fn rate(name: &str, threads: usize, time: Duration) -> f64 {
    let began = Instant::now();
    let hashed: usize = thread::scope(|scope| {
        let work = || {
            let mut hash = hasher(name);
            let mut hashed = 0;
            while began.elapsed() < time {
                hash();
                hashed += 1;
            }
            hashed
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    hashed as f64 / began.elapsed().as_secs_f64()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [threads, seconds, names @ ..] = &arguments[..] else { panic!("limits THREADS SECONDS NAME…") };
    let (threads, seconds): (usize, f64) = (threads.parse().unwrap(), seconds.parse().unwrap());
    let mut rates = vec![Vec::new(); names.len()];
    for _ in 0..ROUNDS {
        for (name, rates) in names.iter().zip(&mut rates) {
            rates.push(rate(name, threads, Duration::from_secs_f64(seconds / ROUNDS as f64)));
        }
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    };
    let rows: Vec<String> =
        names.iter().zip(&mut rates).map(|(name, rates)| format!("\"{name}\":{:.1}", median(rates))).collect();
    println!("{{{}}}", rows.join(","));
}
