//! The HTTP interface: the route table, and what every handler shares. The only place that knows actix-web and utoipa.

mod bearer;
mod body;
mod client;
mod connection;
mod cors;
mod docs;
pub mod error;
mod health;
mod key_set;
mod metrics;
mod observe;
mod openapi;
mod sessions;
mod tokens;
mod users;
mod verify;

pub use actix_web::dev::Server;
pub use connection::{Options, close, listen, serve};
pub use openapi::default_document;

pub use users::UserResponse;

use crate::{
    auth::Auth,
    clock::Clock,
    config::{Origin, Profile, Settings},
    crypto::TokenNames,
    storage::Storage,
    telemetry::Metrics,
};
use actix_web::{
    FromRequest, Handler, Resource, Responder, Route, guard,
    http::Method,
    web::{self, Bytes, ServiceConfig},
};
use client::Proxies;
use error::Problem;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// What handlers need: the use cases, the clock, and how replies are written.
pub struct State {
    auth: Arc<Auth>,
    storage: Storage,
    clock: Clock,
    base_path: String,
    has_docs: bool,
    /// Whether metrics are among the other routes.
    has_metrics: bool,
    request_timeout: Duration,
    token_names: TokenNames,
    /// What replies say that their tokens are.
    token_type: String,
    proxies: Proxies,
    cors_allowed_origins: Vec<Origin>,
    authorization_header: String,
    auth_header_types: Vec<String>,
    openapi: Bytes,
    metrics: Arc<Metrics>,
    is_stopping: AtomicBool,
}

impl State {
    pub fn new(settings: &Settings, auth: Arc<Auth>, storage: Storage, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let token_names = token_names(settings);
        let base_path = settings.server.base_path.to_string();
        Self {
            auth,
            storage,
            clock,
            has_docs: settings.server.docs,
            has_metrics: settings.server.metrics_bind.is_none() && settings.profile == Profile::Development,
            request_timeout: settings.server.request_timeout,
            proxies: Proxies::new(&settings.server.forwarded_header, settings.server.trusted_proxies.clone()),
            cors_allowed_origins: settings.server.cors_allowed_origins.clone(),
            authorization_header: settings.jwt.authorization_header.to_string(),
            auth_header_types: settings.jwt.auth_header_types.clone(),
            token_type: openapi::token_type(&settings.jwt.auth_header_types).to_owned(),
            openapi: openapi::document(&openapi::Dialect {
                base_path: &base_path,
                names: &token_names,
                header: &settings.jwt.authorization_header,
                schemes: &settings.jwt.auth_header_types,
                passwords: settings.passwords.rules(),
            })
            .to_string()
            .into(),
            token_names,
            base_path,
            metrics,
            is_stopping: AtomicBool::new(false),
        }
    }

    /// From now on every answer is the last of its connection, and says so: a client that hears of the end sends nothing
    /// into it.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}

/// How tokens are named in replies and in `token_type`.
pub fn token_names(settings: &Settings) -> TokenNames {
    TokenNames {
        access: settings.jwt.access_token_name.to_string(),
        refresh: settings.jwt.refresh_token_name.to_string(),
    }
}

/// Every route there is.
pub fn routes(state: &State, config: &mut ServiceConfig) {
    let base = state.base_path.as_str();
    let mut at = |path: &str, routes: Vec<Verb>| {
        config.service(resource(&format!("{base}{path}"), routes));
    };

    at("/auth/create", vec![post(users::create)]);
    at("/auth/signin", vec![post(tokens::signin)]);
    at("/auth/refresh-access", vec![post(tokens::refresh_access)]);
    at("/auth/signout", vec![post(tokens::signout)]);
    at("/auth/signout-all", vec![post(sessions::signout_all)]);
    at("/auth/sessions", vec![get(sessions::list)]);
    at("/auth/sessions/{id}", vec![delete(sessions::end)]);
    at("/auth/password", vec![post(sessions::change_password)]);
    at("/auth/verify", vec![get(verify::verify)]);
    at("/auth/users", vec![get(users::list)]);
    at("/auth/users/me", vec![get(users::me), patch(users::update_me)]);

    at("/.well-known/jwks.json", vec![get(key_set::key_set)]);

    at("/livez", vec![get(health::livez)]);
    at("/readyz", vec![get(health::readyz)]);
    if state.has_metrics {
        at("/metrics", vec![get(metrics::metrics)]);
    }
    at("/openapi.json", vec![get(docs::openapi)]);
    if state.has_docs {
        at("/", vec![get(docs::to_swagger)]);
        if !base.is_empty() {
            at("", vec![get(docs::to_swagger)]);
        }
        at("/docs/swagger", vec![get(docs::to_swagger)]);
        at("/docs/swagger/{file:.*}", vec![get(docs::swagger)]);
        at("/docs/errors", vec![get(docs::errors)]);
    }

    config.default_service(web::to(async || Err::<String, _>(Problem::NotFound)));
}

/// What is served on `server.metrics_bind`: an address of its own, which the outside does not reach.
pub fn metrics_routes(_: &State, config: &mut ServiceConfig) {
    config.service(resource("/metrics", vec![get(metrics::metrics)]));
    config.default_service(web::to(async || Err::<String, _>(Problem::NotFound)));
}

/// A handler, and the methods that reach it.
struct Verb(&'static [Method], Route);

fn post<F: Handler<A>, A: FromRequest + 'static>(handler: F) -> Verb
where
    F::Output: Responder + 'static,
{
    Verb(&[Method::POST], web::post().to(handler))
}

fn patch<F: Handler<A>, A: FromRequest + 'static>(handler: F) -> Verb
where
    F::Output: Responder + 'static,
{
    Verb(&[Method::PATCH], web::patch().to(handler))
}

fn delete<F: Handler<A>, A: FromRequest + 'static>(handler: F) -> Verb
where
    F::Output: Responder + 'static,
{
    Verb(&[Method::DELETE], web::delete().to(handler))
}

/// GET, and HEAD with it: what is the same without the body (RFC 9110 §9.3.2).
fn get<F: Handler<A>, A: FromRequest + 'static>(handler: F) -> Verb
where
    F::Output: Responder + 'static,
{
    let method = guard::Any(guard::Get()).or(guard::Head());
    Verb(&[Method::GET, Method::HEAD], web::route().guard(method).to(handler))
}

/// A resource that answers 405 with `Allow` to every other method.
fn resource(path: &str, verbs: Vec<Verb>) -> Resource {
    let allowed: Vec<&str> = verbs.iter().flat_map(|verb| verb.0).map(Method::as_str).collect();
    let allowed = allowed.join(", ");
    let refuse = move || {
        let problem = Problem::MethodNotAllowed(allowed.clone());
        async { Err::<String, _>(problem) }
    };
    let resource = verbs.into_iter().fold(web::resource(path), |resource, verb| resource.route(verb.1));
    resource.default_service(web::to(refuse))
}
