//! The HTTP interface, and the only module that uses actix-web and utoipa. The route table is in `routes.rs`.

mod connection;
mod extract;
mod handlers;
mod middleware;
mod oauth_error;
mod openapi;
mod problem;
mod refusals;
mod routes;

pub use actix_web::dev::{Server, ServerHandle};
pub use connection::{Options, close, listen, serve};
pub use handlers::{audit::AuditResponse, users::UserResponse};
pub use openapi::default_document;
pub use problem::Code;
pub use routes::{metrics_routes, routes};

use crate::{
    auth::Auth,
    clock::Clock,
    config::{Origin, Profile, Settings},
    telemetry::Metrics,
    tokens::TokenNames,
};
use actix_web::web::Bytes;
use extract::Proxies;
use handlers::discovery;
use serde_json::Value;
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// The state that handlers share: the use cases, the clock, and the settings of requests and responses.
pub struct State {
    auth: Arc<Auth>,
    clock: Clock,
    base_path: String,
    has_docs: bool,
    /// Whether the main port serves `/metrics`.
    has_metrics: bool,
    request_timeout: Duration,
    token_names: TokenNames,
    /// The member `token_type` of responses.
    token_type: String,
    proxies: Proxies,
    cors_allowed_origins: Vec<Origin>,
    authorization_header: String,
    auth_header_types: Vec<String>,
    /// The metadata of RFC 8414, if the issuer is an absolute URL.
    metadata: Option<Value>,
    /// The further path of the metadata if the issuer has a path (RFC 8414 §3.1).
    metadata_path: Option<String>,
    openapi: Bytes,
    metrics: Arc<Metrics>,
    is_stopping: AtomicBool,
    stopped: Notify,
}

impl State {
    pub fn new(settings: &Settings, auth: Arc<Auth>, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let token_names = token_names(settings);
        let base_path = settings.server.base_path.to_string();
        let (issuer, algorithm) = (settings.issuer_url(), settings.jwt.algorithm.name());
        let metadata = |url| discovery::metadata(settings.issuer(), url, &base_path, algorithm);
        Self {
            auth,
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
            metadata: issuer.as_ref().map(metadata),
            metadata_path: issuer.as_ref().and_then(discovery::inserted_path),
            token_names,
            base_path,
            metrics,
            is_stopping: AtomicBool::new(false),
            stopped: Notify::new(),
        }
    }

    /// Makes every later response the final one of its connection, so that clients connect to another replica, and
    /// answers the requests that wait for a revocation.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.stopped.notify_waiters();
    }

    /// Completes when the service begins to stop.
    async fn stopped(&self) {
        let mut stopped = pin!(self.stopped.notified());
        // Register before the flag is read, so that a stop in between is not missed.
        stopped.as_mut().enable();
        if !self.is_stopping.load(Ordering::SeqCst) {
            stopped.await;
        }
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}

/// The names of tokens in responses and in the claim `token_type`.
pub fn token_names(settings: &Settings) -> TokenNames {
    TokenNames {
        access: settings.jwt.access_token_name.to_string(),
        refresh: settings.jwt.refresh_token_name.to_string(),
    }
}
