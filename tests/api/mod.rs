//! Through HTTP, as clients see it.

mod authorization;
mod create;
mod document_values;
mod front;
mod jwt_settings;
mod pages;
mod protocol;
mod refresh;
mod rotation;
mod sessions;
mod signin;
mod signout;
mod tokens;
mod users;
mod verify;
