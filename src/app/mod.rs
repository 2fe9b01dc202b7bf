//! Builds the service and runs it. Tests start what `main` starts.

mod keys;
mod shutdown;
mod startup;

pub use keys::{KeyFolder, KeyReloader, KeysError, check_keys, key_folder};

use crate::{
    auth::{Auth, AuthError},
    clock::Clock,
    config::Settings,
    crypto::Tokens,
    domain::Timestamp,
    http::{self, Server, State},
    jobs::{self, Jobs},
    passwords::Passwords,
    storage::{Follower, OpenError, Storage, StorageError},
    telemetry::{HashWaits, Metrics},
};
use futures_util::future::{Either, select};
use startup::Startup;
use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
};

/// A service that is wired and bound, and serves once it is run.
pub struct App {
    address: SocketAddr,
    /// The socket that `server` accepts from.
    listener: TcpListener,
    server: Server,
    /// Serves `server.metrics_bind`.
    metrics_server: Option<Server>,
    storage: Storage,
    /// What is left to do when the database was unavailable at the start.
    startup: Option<Startup>,
    jobs: Jobs,
    key_reloader: KeyReloader,
    state: Arc<State>,
}

/// Why the service does not start, or ends by itself.
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
    /// Whether trying again may help.
    fn is_temporary(&self) -> bool {
        matches!(self, Self::Storage(StorageError::Unavailable(_)))
    }
}

impl App {
    /// Binds the port, opens the database and loads the keys. While PostgreSQL is unavailable the service answers 503 and
    /// waits; an SQLite file that cannot be used is an error, because waiting would not help.
    ///
    /// # Errors
    /// When something is missing that waiting would not bring.
    pub async fn build(settings: &Settings, clock: Clock) -> Result<Self, StartError> {
        // First: a second process that is started by mistake must not migrate the database of the first.
        let listener = listen("server.bind", settings.server.bind)?;
        let address = listener.local_addr().map_err(StartError::Server)?;
        let metrics_listener =
            settings.server.metrics_bind.map(|bind| listen("server.metrics_bind", bind)).transpose()?;

        let workers = settings.server.workers();
        let storage = Storage::open(settings, workers).await?;
        let hash_waits = HashWaits::default();
        let auth = Arc::new(auth(settings, storage.clone(), &hash_waits, clock.now())?);
        let mut follower = Follower::new(&storage);
        let startup = Startup::new(settings, &auth, &storage, &clock).begin(&mut follower).await?;

        let options = http::Options {
            workers,
            routes: http::routes,
            keep_alive: settings.server.keep_alive,
            request_timeout: settings.server.request_timeout,
            shutdown_timeout: settings.server.shutdown_timeout,
        };
        let metrics = Arc::new(Metrics::new(hash_waits));
        let poll_interval = settings.revocation.poll_interval;
        let jobs = Jobs {
            storage: storage.clone(),
            follower,
            poll_interval,
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
        };
        let key_reloader = KeyReloader::new(settings, Arc::clone(&auth), clock.clone());
        let state = Arc::new(State::new(settings, auth, clock, metrics));
        let metrics_server = metrics_listener.map(|listener| {
            let options = http::Options { workers: 1, routes: http::metrics_routes, ..options.clone() };
            http::serve(listener, Arc::clone(&state), &options)
        });
        let metrics_server = metrics_server.transpose().map_err(StartError::Server)?;
        let also_listener = listener.try_clone().map_err(StartError::Server)?;
        let server = http::serve(also_listener, Arc::clone(&state), &options).map_err(StartError::Server)?;
        Ok(Self { address, listener, server, metrics_server, storage, startup, jobs, key_reloader, state })
    }

    /// Where the service listens: with port 0 in the settings, the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the keys of this service, at any time.
    pub fn key_reloader(&self) -> KeyReloader {
        self.key_reloader.clone()
    }

    /// Serves until `shutdown` completes, then finishes the requests in flight within `server.shutdown_timeout` and closes
    /// the database.
    ///
    /// # Errors
    /// When the server fails, or the database turns out to be one that cannot be used.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self { listener, server, metrics_server, storage, startup, jobs, key_reloader, state, .. } = self;
        let handle = server.handle();
        let metrics_handle = metrics_server.as_ref().map(Server::handle);
        metrics_server.map(|server| {
            tokio::spawn(async {
                if let Err(error) = server.await {
                    tracing::error!("metrics are no longer served: {error}");
                }
            })
        });
        let mut serving = tokio::spawn(server);
        // Beside serving, until the last request is answered.
        let mut working = Box::pin(work(startup, jobs, key_reloader));
        let reason_to_stop = tokio::select! {
            ended = &mut serving => return ended.map_err(io::Error::other).and_then(|ended| ended).map_err(StartError::Server),
            () = shutdown => Ok(()),
            failed = &mut working => match failed { Err(error) => Err(error) },
        };
        let finishing = pin!(async {
            shutdown::drain(&state, &listener, &handle, metrics_handle.as_ref()).await;
            serving.await.map_err(io::Error::other).and_then(|ended| ended)
        });
        let ended = match &reason_to_stop {
            Ok(()) => match select(finishing, &mut working).await {
                Either::Left((ended, _)) => ended,
                Either::Right((_, finishing)) => finishing.await,
            },
            Err(_) => finishing.await,
        };
        // A job that is not polled any more must not hold a connection while all of them are closed.
        drop(working);
        shutdown::close(&storage).await;
        reason_to_stop.and(ended.map_err(StartError::Server))
    }
}

/// Binds the port that a setting names.
fn listen(setting: &'static str, bind: SocketAddr) -> Result<TcpListener, StartError> {
    http::listen(bind).map_err(|error| StartError::Bind(setting, bind, error))
}

/// Wires the use cases.
///
/// # Errors
/// When a key cannot be used, or password hashing cannot start.
pub fn auth(settings: &Settings, storage: Storage, waits: &HashWaits, now: Timestamp) -> Result<Auth, StartError> {
    let issuer = keys::issuer(settings);
    let keys = keys::load(settings, issuer.access_reach(), now)?;
    let tokens = Tokens::new(issuer, keys);
    let passwords = Passwords::start(settings.passwords.hashing(), waits.clone()).map_err(StartError::Passwords)?;
    Ok(Auth::new(settings, storage, passwords, tokens))
}

/// Watches the keys. Waits for the database if it was unavailable at the start, then runs the background jobs. Returns only
/// when waiting would not help.
async fn work(startup: Option<Startup>, mut jobs: Jobs, keys: KeyReloader) -> Result<Infallible, StartError> {
    let working = pin!(async {
        if let Some(startup) = startup {
            startup.finish(&mut jobs.follower).await?;
        }
        Ok(jobs.run().await)
    });
    // The key set is served while the database is unavailable, so its keys are watched then, too.
    let watching = pin!(jobs::watch_keys(move || keys.reload_folder()));
    match select(working, watching).await {
        Either::Left((ended, _)) => ended,
        Either::Right((never, _)) => Ok(never),
    }
}
