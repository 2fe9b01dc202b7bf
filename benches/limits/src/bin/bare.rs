//! The least that a service on this stack does for a sign-in, as the limit of what Signet could reach: it reads one row,
//! hashes, writes one row durably, answers. No token is signed, nothing is checked, counted or logged.
//!
//! Its database is at `SIGNET__DATABASE__URL`, and its users are those of `scripts/bench`.

#[path = "../../../../src/crypto/argon2_kernel.rs"]
#[allow(dead_code)]
mod argon2_kernel;
#[path = "../../../../src/crypto/argon2id.rs"]
#[allow(dead_code)]
mod argon2id;
#[path = "../../../../src/time_slice.rs"]
mod time_slice;

use actix_web::{App, HttpResponse, HttpServer, web};
use argon2::{Block, Params};
use argon2id::{Argon2id, Kernel};
use serde::Deserialize;
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    str::FromStr,
    sync::{Arc, Mutex, mpsc},
    thread,
};
use tokio::sync::oneshot;

type Job = (String, oneshot::Sender<[u8; 32]>);

struct Bare {
    read: SqlitePool,
    write: SqlitePool,
    hash: mpsc::Sender<Job>,
}

#[derive(Deserialize)]
struct SignIn {
    email: String,
    password: String,
}

async fn sign_in(bare: web::Data<Bare>, body: web::Json<SignIn>) -> HttpResponse {
    let SignIn { email, password } = body.into_inner();
    let user = sqlx::query_scalar("SELECT id FROM users WHERE email = $1").bind(email).fetch_one(&bare.read).await;
    let user: i64 = user.unwrap();
    let (done, hashed) = oneshot::channel();
    bare.hash.send((password, done)).unwrap();
    let tag = hashed.await.unwrap();
    let begin = sqlx::query("INSERT INTO sessions (user_id, tag) VALUES ($1, $2)").bind(user).bind(&tag[..]);
    begin.execute(&bare.write).await.unwrap();
    let token = "x".repeat(250);
    HttpResponse::Ok().json(serde_json::json!({"access_token": token, "refresh_token": token}))
}

/// As in Signet: as many as there are cores, their memory kept, behind everybody else.
fn hash_threads() -> mpsc::Sender<Job> {
    let (sender, receiver) = mpsc::channel::<Job>();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..thread::available_parallelism().unwrap().get() {
        let receiver = Arc::clone(&receiver);
        thread::spawn(move || {
            let _ = rustix::process::setpriority_process(None, 10);
            let _ = time_slice::ask_for(time_slice::LONGEST);
            let best = ["avx512", "avx2", "portable"].into_iter().filter_map(Kernel::parse);
            let argon2id = best.filter_map(Argon2id::with).next().unwrap();
            let params = Params::new(19_456, 2, 1, Some(32)).unwrap();
            let mut memory = vec![Block::new(); params.block_count()];
            loop {
                let Ok((password, done)) = receiver.lock().unwrap().recv() else { return };
                let _ = done.send(argon2id.hash(&params, password.as_bytes(), b"sixteen bytes...", &mut memory));
            }
        });
    }
    sender
}

#[actix_web::main]
async fn main() {
    let _ = time_slice::ask_for(time_slice::SHORTEST);
    let url = std::env::var("SIGNET__DATABASE__URL").unwrap();
    let options = SqliteConnectOptions::from_str(&url).unwrap().create_if_missing(true);
    let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    let write = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await.unwrap();
    for sql in [
        "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE)",
        "CREATE TABLE sessions (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, tag BLOB NOT NULL)",
        "INSERT INTO users (email) WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999) \
         SELECT 'user' || i || '@example.com' FROM n",
    ] {
        sqlx::query(sql).execute(&write).await.unwrap();
    }
    let read = SqlitePoolOptions::new().max_connections(10).connect_with(options).await.unwrap();
    let bare = web::Data::new(Bare { read, write, hash: hash_threads() });
    let workers = thread::available_parallelism().unwrap().get();
    let server = HttpServer::new(move || App::new().app_data(bare.clone()).route("/auth/signin", web::post().to(sign_in)));
    let server = server.workers(workers).bind("127.0.0.1:0").unwrap();
    println!("listening on http://{}\nCtrl-C ends it", server.addrs()[0]);
    server.run().await.unwrap();
}
