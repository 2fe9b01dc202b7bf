//! How many passwords a second can be hashed on so many threads, by each kernel and by the C reference: `limits THREADS
//! SECONDS NAME…`, in turn, three rounds, so that a machine that slows down slows all of them. Prints the medians as JSON.

// The very files: all of Signet would be compiled once more for them.
#[path = "../../../src/crypto/argon2_kernel.rs"]
mod argon2_kernel;
#[allow(dead_code)]
#[path = "../../../src/crypto/argon2_memory.rs"]
mod argon2_memory;
#[path = "../../../src/crypto/argon2id.rs"]
#[allow(dead_code)]
mod argon2id;

use argon2::Params;
use argon2_kdf::{Algorithm, Hasher};
use argon2_memory::Memory;
use argon2id::{Argon2id, Kernel};
use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

const MEMORY_KIB: u32 = 19_456;
const ITERATIONS: u32 = 2;
const SALT: &[u8; 16] = b"sixteen bytes...";
const ROUNDS: usize = 3;

/// Hashes once for each call.
fn hasher(name: &str) -> Box<dyn FnMut()> {
    if name == "c" {
        let hasher = Hasher::new()
            .algorithm(Algorithm::Argon2id)
            .custom_salt(SALT)
            .hash_length(32)
            .iterations(ITERATIONS)
            .memory_cost_kib(MEMORY_KIB)
            .threads(1);
        return Box::new(move || drop(black_box(hasher.clone().hash(b"correct horse").unwrap())));
    }
    let argon2id = Kernel::parse(name).and_then(Argon2id::with).expect("a kernel that this processor has");
    let params = Params::new(MEMORY_KIB, ITERATIONS, 1, Some(32)).unwrap();
    let mut memory = Memory::default();
    Box::new(move || {
        black_box(argon2id.hash(&params, b"correct horse", SALT, memory.blocks(params.block_count()), || ()));
    })
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
