//! Signet issues tokens: sign-up, sign-in, refresh and user accounts.
//!
//! # The layers
//!
//! A module uses only modules in rows below it; a test checks this.
//!
//! | module | task |
//! |---|---|
//! | [`cli`] | the command line: commands, output, exit codes |
//! | [`app`] | builds the service from its parts and runs it |
//! | [`jobs`] | background work on the database: follow the feed of revocations, send mails, purge expired rows |
//! | [`http`] | routes, extractors, handlers, problem+json; only this module uses actix-web and utoipa |
//! | [`auth`] | the use cases, one file each |
//! | [`limits`] | limits on guessing, by client address and by account |
//! | [`tokens`] | mints and verifies tokens |
//! | [`passwords`] | hashes and verifies passwords on a pool of threads; only this module uses Argon2 |
//! | [`mail`] | composes mails and sends them; only this module uses lettre |
//! | [`storage`] | users, sessions, API keys, clients, revocations, audit, outbox; only this module uses sqlx |
//! | [`keys`] | the keys that sign tokens: their states and their files |
//! | [`telemetry`] | logs, metrics, traces |
//! | [`config`] | reads and checks the settings |
//! | [`os`] | the CPU quota of a container, the time slice of a thread, files that contain secrets, look-ups of names |
//! | [`clock`], [`random`] | the only clock, passed to `App::build`; the only source of random bytes |
//! | [`domain`] | nouns and pure decisions; no I/O, no framework |
//!
//! A request passes down through the layers, and its response passes up: bytes → request → domain types → use case →
//! outcome → response. A handler parses the request, calls `auth.verb(input, now)` and maps the outcome.

pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod limits;
pub mod mail;
pub mod os;
pub mod passwords;
pub mod random;
pub mod storage;
pub mod telemetry;
pub mod tokens;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    /// From the lowest layer to the highest. Modules of one layer do not use each other.
    const LAYERS: [&[&str]; 11] = [
        &["domain"],
        &["os", "clock", "random"],
        &["config"],
        &["telemetry"],
        &["keys"],
        &["tokens", "passwords", "storage", "mail"],
        &["limits"],
        &["auth"],
        &["http", "jobs"],
        &["app"],
        &["cli"],
    ];

    #[test]
    fn a_module_uses_lower_layers_only() {
        for (layer, modules) in LAYERS.iter().enumerate() {
            for module in *modules {
                let others = LAYERS[layer..].iter().copied().flatten().filter(|other| *other != module);
                for file in files(Path::new("src"), module) {
                    let text = fs::read_to_string(&file).unwrap();
                    // `crate::other` or `use crate::{ …, other::…, … };`
                    let lists = text.split("use crate::{").skip(1).filter_map(|list| list.split("};").next());
                    let listed: Vec<&str> = lists.flat_map(|list| list.split(|c: char| !c.is_alphanumeric())).collect();
                    let is_used = |other: &&str| text.contains(&format!("crate::{other}")) || listed.contains(other);
                    let used: Vec<_> = others.clone().filter(|other| is_used(other)).collect();
                    assert!(used.is_empty(), "{} uses {used:?}", file.display());
                }
            }
        }
    }

    /// The files of a module: a folder or `module.rs`.
    fn files(folder: &Path, module: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(folder.join(module)) else { return vec![folder.join(format!("{module}.rs"))] };
        let paths = entries.map(|entry| entry.unwrap().path());
        let paths = paths.flat_map(|path| if path.is_dir() { files(&path, "") } else { vec![path] });
        paths.collect()
    }
}
