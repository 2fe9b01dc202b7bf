//! Signet issues tokens: sign up, sign in, refresh, and the users.
//!
//! # The map
//!
//! | where | what |
//! |---|---|
//! | [`cli`] | the command line: which words there are, and which code they run |
//! | [`app`] | builds the service and runs it; the only wiring |
//! | [`config`] | settings: layers, every fault at once |
//! | [`jobs`] | background work: follow the feed of revocations, purge what has expired, look for changed keys |
//! | [`telemetry`] | logs, metrics, traces |
//! | [`http`] | the route table, extractors, handlers, problem+json; the only place that knows actix-web and utoipa |
//! | [`auth`] | the use cases, a file for each sentence that a product owner says |
//! | [`tokens`] | mint and verify tokens |
//! | [`keys`] | the keys that sign, their states, their files |
//! | [`passwords`] | hash and verify, on a pool of threads; the only place that knows argon2 |
//! | [`storage`] | users, sessions, revocations, migrations; the only place that knows sqlx |
//! | [`clock`], [`random`] | the only clock there is, handed to `App::build`; the only source of random bytes |
//! | [`os`] | the CPU quota of a container, the time slice of a thread, files that hold secrets |
//! | [`domain`] | nouns and pure decisions; no I/O, no framework |
//!
//! Dependencies point one way: `main → cli → app → http → auth → {passwords, tokens → keys, storage} → domain`.
//! `passwords`, `tokens` and `storage` never see each other. `telemetry` is below them all: code that counts something
//! is handed where to. `config` is read where things are built; it asks `keys` whether a key is one.
//!
//! A request is a value that flows down and comes back up once: bytes → request → domain types → use case → outcome →
//! response. A handler is a few lines: parse, call `auth.verb(input, now)`, map the outcome.

pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod os;
pub mod passwords;
pub mod random;
pub mod storage;
pub mod telemetry;
pub mod tokens;
