//! Signet together with programs and libraries that other projects wrote.

mod forward_auth;
mod openapi_clients;
mod swagger;
mod token_libraries;
mod traces;
