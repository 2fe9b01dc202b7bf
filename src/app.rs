//! Wires everything and runs it. The only wiring there is: tests start what `main` starts.

use crate::{
    auth::{Auth, AuthError},
    clock::Clock,
    config::Settings,
    crypto::{
        AddedClaims, Beginning, Issuer, KeyFault, KeyRing, Keys, SigningKey, Tokens,
        key_files::{self, KeyFileError},
    },
    domain::{Algorithm, Email, Timestamp},
    http::{self, Server, State},
    jobs::Jobs,
    passwords::Passwords,
    storage::{self, Follower, OpenError, Storage, StorageError},
    telemetry::{HashWaits, Metrics},
};
use futures_util::future::{Either, OptionFuture, join, select};
use secrecy::SecretString;
use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// How often a database that was away at the start is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// How long the service accepts connections after it was asked to stop. Each gets a response with `connection: close`.
const ACCEPT_GRACE: Duration = Duration::from_millis(500);

/// How long the start waits for PostgreSQL.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the end waits for the database to close its connections.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A service that is wired and bound, and serves once it is run.
pub struct App {
    address: SocketAddr,
    /// The socket that `server` accepts from.
    listener: TcpListener,
    server: Server,
    /// Serves `server.metrics_bind`.
    metrics_server: Option<Server>,
    storage: Storage,
    /// What is left to do when the database was away at the start.
    preparation: Option<Preparation>,
    jobs: Jobs,
    key_switch: KeySwitch,
    state: Arc<State>,
}

/// Why the service does not start, or does not go on.
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
    #[error("the server broke off: {0}")]
    Server(io::Error),
}

/// Why there are no keys to work with.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error("the keys of tokens: {0}")]
    Setting(#[from] KeyFault),
    #[error("jwt.keys_dir, {0}: {1}")]
    Folder(String, KeyFault),
}

impl StartError {
    /// Whether it passes by itself.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Storage(StorageError::Unavailable(_)))
    }
}

impl App {
    /// Takes the port, opens the database and loads the keys. A PostgreSQL that is away is waited for while serving
    /// (503); an SQLite file that cannot be used is an error, because waiting would not help.
    ///
    /// # Errors
    /// When something is missing that will not come by itself.
    pub async fn build(settings: &Settings, clock: Clock) -> Result<Self, StartError> {
        // First: whoever starts a second one by mistake must not migrate the database of the first.
        let listener = listen("server.bind", settings.server.bind)?;
        let address = listener.local_addr().map_err(StartError::Server)?;
        let metrics_listener =
            settings.server.metrics_bind.map(|bind| listen("server.metrics_bind", bind)).transpose()?;

        let workers = settings.server.workers();
        let storage = Storage::open(settings, workers).await?;
        let hash_waits = HashWaits::default();
        let auth = Arc::new(auth(settings, storage.clone(), &hash_waits, clock.now())?);
        let due = Preparation {
            auth: Arc::clone(&auth),
            storage: storage.clone(),
            clock: clock.clone(),
            migrates: storage.is_sqlite() || settings.database.migrate_on_start,
            first_superuser: settings.first_superuser(),
        };
        let mut follower = Follower::new(&storage);
        let preparation = if storage.is_sqlite() {
            due.run(&mut follower).await?;
            None
        } else {
            // Another replica may be migrating, and PostgreSQL may be away: soon we serve, and wait beside that.
            match timeout(PATIENCE, due.run(&mut follower)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) if !error.is_passing() => return Err(error),
                Ok(Err(error)) => {
                    tracing::error!("{error}; answering 503 until it is back");
                    Some(due)
                }
                Err(_) => {
                    tracing::warn!("the database is not ready yet; answering 503 until it is");
                    Some(due)
                }
            }
        };

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
            auth: Arc::clone(&auth),
            storage: storage.clone(),
            follower,
            poll_interval,
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
        };
        let key_switch = KeySwitch { auth: Arc::clone(&auth), clock: clock.clone() };
        let state = Arc::new(State::new(settings, auth, storage.clone(), clock, metrics));
        let metrics_server = metrics_listener.map(|listener| {
            let options = http::Options { workers: 1, routes: http::metrics_routes, ..options.clone() };
            http::serve(listener, Arc::clone(&state), &options)
        });
        let metrics_server = metrics_server.transpose().map_err(StartError::Server)?;
        let also_listener = listener.try_clone().map_err(StartError::Server)?;
        let server = http::serve(also_listener, Arc::clone(&state), &options).map_err(StartError::Server)?;
        Ok(Self { address, listener, server, metrics_server, storage, preparation, jobs, key_switch, state })
    }

    /// Where it listens: the port that was chosen, when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts other keys into this service, whenever.
    pub fn key_switch(&self) -> KeySwitch {
        self.key_switch.clone()
    }

    /// Serves until `shutdown` comes, then finishes what is in flight within `server.shutdown_timeout` and closes
    /// the database.
    ///
    /// # Errors
    /// When the server breaks off by itself, or the database turns out to be one that cannot be used.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self { listener, server, metrics_server, storage, preparation, jobs, state, .. } = self;
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
        // Goes on beside serving, and until the last request is answered.
        let mut working = Box::pin(work(preparation, jobs));
        let reason_to_stop = tokio::select! {
            ended = &mut serving => return ended.map_err(io::Error::other).and_then(|ended| ended).map_err(StartError::Server),
            () = shutdown => Ok(()),
            failed = &mut working => match failed { Err(error) => Err(error) },
        };
        let finishing = pin!(async {
            // A client or a proxy that has not heard of the end yet is still served, and told to come to another replica.
            state.stop();
            sleep(ACCEPT_GRACE).await;
            // The server drops a connection that it has accepted and not begun to serve when it stops. So first it accepts
            // no more, then the port is closed, and what is accepted by then is served.
            handle.pause().await;
            sleep(Duration::from_millis(1)).await;
            http::close(&listener);
            sleep(Duration::from_millis(100)).await;
            join(handle.stop(true), OptionFuture::from(metrics_handle.map(|handle| handle.stop(true)))).await;
            serving.await.map_err(io::Error::other).and_then(|ended| ended)
        });
        let ended = match &reason_to_stop {
            Ok(()) => match select(finishing, &mut working).await {
                Either::Left((ended, _)) => ended,
                Either::Right((_, finishing)) => finishing.await,
            },
            Err(_) => finishing.await,
        };
        // Closing waits for every connection that is in use, and nobody polls this work any more.
        drop(working);
        // A disk or a server that does not answer must not keep the process from ending.
        let _ = timeout(CLOSE_TIMEOUT, storage.close()).await;
        reason_to_stop.and(ended.map_err(StartError::Server))
    }
}

/// Takes the port that a setting names.
fn listen(setting: &'static str, bind: SocketAddr) -> Result<TcpListener, StartError> {
    http::listen(bind).map_err(|error| StartError::Bind(setting, bind, error))
}

/// Wires the use cases.
///
/// # Errors
/// When a key cannot be used, or password hashing cannot start.
pub fn auth(settings: &Settings, storage: Storage, waits: &HashWaits, now: Timestamp) -> Result<Auth, StartError> {
    let tokens = Tokens::new(issuer(settings), keys(settings, now)?);
    let passwords = Passwords::start(settings.passwords.hashing(), waits.clone()).map_err(StartError::Passwords)?;
    Ok(Auth::new(settings, storage, passwords, tokens))
}

fn issuer(settings: &Settings) -> Issuer {
    let jwt = &settings.jwt;
    let added = AddedClaims {
        jti: Some(jwt.jti_claim.to_string()).filter(|name| name != "jti"),
        user_id: Some((jwt.user_id_claim.to_string(), jwt.user_id_field)).filter(|(name, _)| name != "sub"),
    };
    Issuer {
        iss: settings.issuer().to_owned(),
        aud: jwt.audience.clone(),
        names: http::token_names(settings),
        access_lifetime: jwt.access_token_lifetime,
        leeway: jwt.leeway,
        added,
    }
}

/// The keys that the settings name: at the start, and whenever they are read again. The development profile makes those
/// that are missing.
///
/// # Errors
/// When one is missing or cannot be used.
pub fn keys(settings: &Settings, now: Timestamp) -> Result<Keys, KeysError> {
    let made = |name: &str, algorithm| key_files::load_or_create(&settings.data_dir(), name, algorithm);
    let access = match access_keys(settings, now)? {
        Some(ring) => ring,
        // Only in development: production does not get past its settings without a key.
        None => single_key(settings, &made(&made_signing_key(settings), settings.jwt.algorithm)?, now)?,
    };
    let refresh = match &settings.jwt.refresh_key {
        Some(key) => key.clone(),
        None => made(MADE_REFRESH_KEY, Algorithm::Hs256)?,
    };
    Ok(Keys::new(access, &refresh, settings.jwt.refresh_key_previous.as_ref())?)
}

/// Whether the keys that the settings name can be used; makes none.
///
/// # Errors
/// As [`keys`].
pub fn check_keys(settings: &Settings, now: Timestamp) -> Result<(), KeysError> {
    let made = |name: &str, algorithm| key_files::load(&settings.data_dir(), name, algorithm);
    let access = match access_keys(settings, now)? {
        Some(ring) => Some(ring),
        None => made(&made_signing_key(settings), settings.jwt.algorithm)?
            .map(|key| single_key(settings, &key, now))
            .transpose()?,
    };
    let refresh = match &settings.jwt.refresh_key {
        Some(key) => Some(key.clone()),
        None => made(MADE_REFRESH_KEY, Algorithm::Hs256)?,
    };
    if let (Some(access), Some(refresh)) = (access, refresh) {
        Keys::new(access, &refresh, settings.jwt.refresh_key_previous.as_ref())?;
    }
    Ok(())
}

/// The file of the refresh key that the development profile makes.
const MADE_REFRESH_KEY: &str = "refresh_key";

/// The file of the signing key that the development profile makes.
fn made_signing_key(settings: &Settings) -> String {
    match settings.jwt.algorithm {
        Algorithm::Hs256 => "signing_key".to_owned(),
        other => format!("signing_key.{}", other.name()),
    }
}

/// The keys of access tokens; `None` where neither a folder nor a key is set.
fn access_keys(settings: &Settings, now: Timestamp) -> Result<Option<KeyRing>, KeysError> {
    match (&settings.jwt.keys_dir, &settings.jwt.signing_key) {
        (Some(folder), _) => key_ring(settings, folder, now).map(Some),
        (None, Some(key)) => single_key(settings, key, now).map(Some),
        (None, None) => Ok(None),
    }
}

fn single_key(settings: &Settings, text: &SecretString, now: Timestamp) -> Result<KeyRing, KeysError> {
    let key = SigningKey::parse(text, settings.jwt.algorithm)?;
    let reach = issuer(settings).access_reach();
    Ok(KeyRing::new(Keys::ACCESS, vec![(key, Some(Beginning::LONG_AGO))], reach, now)?)
}

/// The keys of `jwt.keys_dir`.
///
/// # Errors
/// When the folder or one of its keys cannot be used.
pub fn key_ring(settings: &Settings, folder: &Path, now: Timestamp) -> Result<KeyRing, KeysError> {
    let files = key_files::read_folder(folder, settings.jwt.algorithm)?;
    let keys = files.into_iter().map(|file| (file.key, file.begins)).collect();
    let ring = KeyRing::new(Keys::ACCESS, keys, issuer(settings).access_reach(), now);
    ring.map_err(|fault| KeysError::Folder(folder.display().to_string(), fault))
}

/// Puts other keys into a service that runs.
#[derive(Clone)]
pub struct KeySwitch {
    auth: Arc<Auth>,
    clock: Clock,
}

impl KeySwitch {
    /// Takes the keys that these settings name, and nothing else of them. Says which signs now.
    ///
    /// # Errors
    /// When a key is missing or cannot be used. The service goes on with those it has.
    ///
    /// Reads files: not for a thread that others wait for.
    pub fn turn(&self, settings: &Settings) -> Result<String, KeysError> {
        let keys = keys(settings, self.clock.now())?;
        // Reading them took time, and only now are they there for others.
        Ok(self.auth.replace_keys(keys, self.clock.now())?)
    }
}

/// What must be done once before the service can serve.
struct Preparation {
    auth: Arc<Auth>,
    storage: Storage,
    clock: Clock,
    migrates: bool,
    first_superuser: Option<(Email, SecretString)>,
}

impl Preparation {
    async fn run(&self, follower: &mut Follower) -> Result<(), StartError> {
        if self.migrates {
            for user in self.storage.migrate().await? {
                tracing::error!(user.id = user.0, "{}", storage::NAME_CONFLICT);
            }
        }
        // Before the first token is trusted.
        follower.catch_up().await?;
        if let Some((email, password)) = &self.first_superuser {
            match self.auth.user_admin().bootstrap(email, password, self.clock.now()).await {
                Ok(Some(user)) => tracing::info!(user.id = user.id.0, "made the first superuser"),
                Ok(None) => {}
                Err(AuthError::Unavailable(reason)) => return Err(StorageError::Unavailable(reason).into()),
                Err(error) => return Err(StartError::Bootstrap(error)),
            }
        }
        // Last: what all this took is no time in which others could see a key.
        let published = self.storage.publications().await?;
        self.auth.heard_of(&published, self.clock.now());
        Ok(())
    }
}

/// Prepares a database that was away at the start as soon as it is there, then does the background work; ends only when
/// the first is hopeless.
async fn work(due: Option<Preparation>, mut jobs: Jobs) -> Result<Infallible, StartError> {
    if let Some(due) = due {
        while let Err(error) = due.run(&mut jobs.follower).await {
            if !error.is_passing() {
                return Err(error);
            }
            sleep(RETRY).await;
        }
        tracing::info!("the database is ready");
    }
    Ok(jobs.run().await)
}
