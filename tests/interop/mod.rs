//! Signet together with programs and libraries that other projects wrote.

mod forward_auth;
mod openapi_clients;
mod swagger;
mod token_libraries;
mod traces;

use std::{
    env,
    path::{Path, PathBuf},
};

/// The folder where `scripts/test` has installed the programs and libraries; says so where it could not.
fn installed() -> Option<PathBuf> {
    let installed = env::var_os("SIGNET_TEST_OTHERS").map(PathBuf::from);
    if installed.is_none() {
        println!("skipped: the programs and libraries that scripts/test installs are missing");
    }
    installed
}

/// A file that such a program reads.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/programs").join(name)
}
