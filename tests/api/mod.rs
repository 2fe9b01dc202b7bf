//! The HTTP interface, a file for each route or subject.

mod administration;
mod audit;
mod authorization;
mod client_address;
mod cors;
mod create;
mod docs;
mod framing;
mod health;
mod http;
mod jwks;
mod mail;
mod metrics;
mod openapi;
mod openapi_inputs;
mod password;
mod rate_limits;
mod refresh;
mod sessions;
mod signin;
mod signout;
mod token_settings;
mod tokens;
mod users;
mod verify;
