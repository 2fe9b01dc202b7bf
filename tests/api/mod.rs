//! Through HTTP, as clients see it.

mod authorization;
mod create;
mod front;
pub mod jwks;
mod openapi_inputs;
mod pages;
mod protocol;
mod refresh;
mod rotation;
mod sessions;
mod signin;
mod signout;
mod token_settings;
mod tokens;
mod users;
mod verify;
