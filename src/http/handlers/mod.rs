//! One file for each route or group of routes: parse, call a use case, map the outcome.

pub mod api_keys;
pub mod audit;
pub mod discovery;
pub mod docs;
pub mod health;
pub mod jwks;
pub mod mail;
pub mod metrics;
pub mod oauth;
pub mod refresh;
pub mod revocations;
pub mod sessions;
pub mod sign_in;
pub mod sign_out;
mod token_names;
pub mod user;
pub mod users;
pub mod verify;
