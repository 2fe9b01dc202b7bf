//! Builds the service and runs it. Tests start the same [`App`] as `main`.

mod keys;
mod settings;
mod shutdown;
mod startup;

pub use keys::{KeyReloader, KeysError, check_keys, key_states};
pub use settings::{load_settings, start_passwords, warnings};

use crate::{
    auth::{Auth, AuthError},
    clock::Clock,
    config::Settings,
    domain::{Timestamp, User},
    http::{self, Server, State},
    jobs::Jobs,
    passwords::Passwords,
    storage::{Follower, OpenError, Storage, StorageError},
    telemetry::{HashWaits, Metrics},
    tokens::Tokens,
};
use futures_util::{FutureExt, TryFutureExt};
use startup::Startup;
use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
};
use tokio::task::spawn_blocking;

/// The service, bound to its port. It serves requests when it is run.
pub struct App {
    address: SocketAddr,
    /// The socket that `server` accepts from.
    listener: TcpListener,
    server: Server,
    /// Serves `server.metrics_bind`.
    metrics_server: Option<Server>,
    storage: Storage,
    /// The preparation of a database that was unavailable at the start.
    startup: Option<Startup>,
    jobs: Jobs,
    key_reloader: KeyReloader,
    state: Arc<State>,
}

/// Why the service cannot start, or stops without a signal.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Key(#[from] KeysError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{0}")]
    Storage(#[from] StorageError),
    #[error("password hashing cannot start: {0}")]
    Passwords(io::Error),
    #[error("{0}: cannot listen on {1}: {2}")]
    Bind(&'static str, SocketAddr, io::Error),
    #[error("bootstrap: {0}")]
    Bootstrap(AuthError),
    #[error("the server failed: {0}")]
    Server(io::Error),
}

impl StartError {
    /// Whether a retry may help.
    fn is_temporary(&self) -> bool {
        matches!(self, Self::Storage(StorageError::Unavailable(_)))
    }
}

impl App {
    /// Binds the port, opens the database and loads the keys. While PostgreSQL is unavailable the service answers 503 and
    /// retries.
    ///
    /// # Errors
    /// When a retry cannot help.
    pub async fn build(settings: &Settings, clock: Clock) -> Result<Self, StartError> {
        // First, so that a second process, started by mistake, does not migrate the database of the first.
        let listener = listen("server.bind", settings.server.bind)?;
        let address = listener.local_addr().map_err(StartError::Server)?;
        let metrics_listener =
            settings.server.metrics_bind.map(|bind| listen("server.metrics_bind", bind)).transpose()?;

        let workers = settings.server.workers();
        let hash_waits = HashWaits::default();
        // Concurrently: each takes several milliseconds.
        let (options, waits) = (settings.passwords.clone(), hash_waits.clone());
        let passwords = spawn_blocking(move || start_passwords(&options, waits));
        let storage = Storage::open(settings, workers).await?;
        let passwords = passwords.await.map_err(io::Error::other).flatten().map_err(StartError::Passwords)?;
        let auth = Arc::new(auth(settings, storage.clone(), passwords, clock.now())?);
        let mut follower = Follower::new(&storage);
        let startup = Startup {
            settings: settings.clone(),
            auth: Arc::clone(&auth),
            storage: storage.clone(),
            clock: clock.clone(),
        };
        let startup = startup.begin(&mut follower).await?;

        let metrics = Arc::new(Metrics::new(hash_waits));
        let jobs = Jobs {
            storage: storage.clone(),
            follower,
            auth: Arc::clone(&auth),
            poll_interval: settings.revocation.poll_interval,
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
        };
        let key_reloader = KeyReloader::new(settings, Arc::clone(&auth), clock.clone());
        let state = Arc::new(State::new(settings, auth, clock, metrics));
        let serve = |listener, workers, routes| {
            let options = http::Options {
                workers,
                routes,
                keep_alive: settings.server.keep_alive,
                request_timeout: settings.server.request_timeout,
                shutdown_timeout: settings.server.shutdown_timeout,
            };
            http::serve(listener, Arc::clone(&state), &options).map_err(StartError::Server)
        };
        let metrics_server = metrics_listener.map(|listener| serve(listener, 1, http::metrics_routes)).transpose()?;
        let server = serve(listener.try_clone().map_err(StartError::Server)?, workers, http::routes)?;
        Ok(Self { address, listener, server, metrics_server, storage, startup, jobs, key_reloader, state })
    }

    /// The address that the service listens on. If the settings say port 0, it has the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The handle that replaces the keys of this service.
    pub fn key_reloader(&self) -> KeyReloader {
        self.key_reloader.clone()
    }

    /// Serves until `shutdown` completes, then finishes the requests in flight within `server.shutdown_timeout` and closes
    /// the database.
    ///
    /// # Errors
    /// When the server fails, or the database cannot be used.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self { listener, server, metrics_server, storage, startup, jobs, key_reloader, state, .. } = self;
        let handle = server.handle();
        let metrics_handle = metrics_server.as_ref().map(Server::handle);
        if let Some(server) = metrics_server {
            tokio::spawn(server.inspect_err(|error| tracing::error!("metrics are no longer served: {error}")));
        }
        let mut serving = tokio::spawn(server).map(|ended| ended.map_err(io::Error::other).flatten());
        // The jobs continue until the last request is answered.
        let mut working = Box::pin(work(startup, jobs, key_reloader).fuse());
        let reason_to_stop = tokio::select! {
            ended = &mut serving => return ended.map_err(StartError::Server),
            () = shutdown => Ok(()),
            Err(error) = &mut working => Err(error),
        };
        let mut finishing = pin!(async {
            shutdown::drain(&state, &listener, &handle, metrics_handle.as_ref()).await;
            serving.await
        });
        let ended = loop {
            tokio::select! {
                ended = &mut finishing => break ended,
                _ = &mut working => {}
            }
        };
        // A job that is no longer polled must not hold a connection when the connections are closed.
        drop(working);
        shutdown::close(&storage).await;
        reason_to_stop.and(ended.map_err(StartError::Server))
    }
}

/// Binds the port that a setting names.
fn listen(setting: &'static str, bind: SocketAddr) -> Result<TcpListener, StartError> {
    http::listen(bind).map_err(|error| StartError::Bind(setting, bind, error))
}

/// Builds the use cases.
///
/// # Errors
/// When a key cannot be used.
pub fn auth(settings: &Settings, storage: Storage, passwords: Passwords, now: Timestamp) -> Result<Auth, KeysError> {
    let issuer = settings::issuer(settings);
    let keys = keys::load(settings, now)?;
    let mailer = settings::mailer(settings);
    Ok(Auth::new(settings, storage, passwords, Tokens::new(issuer, keys), mailer))
}

/// The MACs under which a service of these settings counts the failures of a user.
///
/// # Errors
/// When a key cannot be used.
pub fn failure_macs(settings: &Settings, user: &User, now: Timestamp) -> Result<Vec<[u8; 32]>, KeysError> {
    let tokens = Tokens::new(settings::issuer(settings), keys::load(settings, now)?);
    Ok(tokens.failure_macs(user))
}

/// Watches the keys, waits for the database if it was unavailable at the start, and runs the background jobs.
///
/// # Errors
/// When a retry cannot help.
async fn work(startup: Option<Startup>, mut jobs: Jobs, keys: KeyReloader) -> Result<Infallible, StartError> {
    let working = async {
        if let Some(startup) = startup {
            startup.finish(&mut jobs.follower).await?;
        }
        Ok(jobs.run().await)
    };
    tokio::select! {
        // From the start: the key set is served while the database is unavailable.
        never = keys.watch_folder() => Ok(never),
        ended = working => ended,
    }
}
