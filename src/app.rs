//! Wires everything and runs it. The only wiring there is: tests start what `main` starts.

use crate::{
    auth::{Auth, Operator},
    config::Settings,
    crypto::{Issuer, Passwords, Secret, SelfTestFailed, Tokens, keys},
    domain::Clock,
    http::{self, State},
    storage::{OpenError, Storage, StorageError},
};
use actix_web::{dev::Server, web::Data};
use secrecy::SecretString;
use std::{
    convert::Infallible,
    future::pending,
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};
use tokio::net::TcpSocket;

/// How often a database that was away at the start is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// A service that is wired and bound, and serves once it is run.
pub struct App {
    address: SocketAddr,
    server: Server,
    storage: Storage,
    /// What is left to do when the database was away at the start.
    preparation: Option<Preparation>,
}

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    KeyFile(#[from] keys::KeyFileError),
    #[error(transparent)]
    Key(#[from] SelfTestFailed),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{0}")]
    Storage(#[from] StorageError),
    #[error("no threads for hashing: {0}")]
    Threads(io::Error),
    #[error("server.bind: cannot listen on {0}: {1}")]
    Bind(SocketAddr, io::Error),
    #[error("bootstrap: {0}")]
    Bootstrap(crate::auth::AuthError),
}

impl App {
    /// Opens the database, loads the keys and binds the port. A PostgreSQL that is away is waited for while serving
    /// (503); an SQLite file that cannot be used is an error, because waiting would not help.
    ///
    /// # Errors
    /// When something is missing that will not come by itself.
    pub async fn build(settings: &Settings, clock: Clock) -> Result<Self, StartError> {
        let storage = Storage::open(&settings.database).await?;
        let auth = auth(settings, storage.clone())?;
        let state = Data::new(State::new(settings, auth, storage.clone(), clock.clone()));

        let mut preparation = Some(Preparation {
            state: state.clone(),
            storage: storage.clone(),
            clock,
            migrates: storage.is_sqlite() || settings.database.migrate_on_start,
            first_superuser: settings
                .bootstrap
                .superuser_email
                .clone()
                .zip(settings.bootstrap.superuser_password.clone()),
        });
        if let Some(due) = &preparation {
            match due.run().await {
                Ok(()) => preparation = None,
                Err(StartError::Storage(StorageError::Unavailable(_))) if !storage.is_sqlite() => {}
                Err(error) => return Err(error),
            }
        }

        let bind = settings.server.bind;
        let refused = |error| StartError::Bind(bind, error);
        let listener = listen(bind).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let options = http::Options {
            workers: settings.server.workers(),
            request_timeout: settings.server.request_timeout,
            shutdown_timeout: settings.server.shutdown_timeout,
        };
        let server = http::serve(listener, state, &options).map_err(refused)?;
        Ok(Self { address, server, storage, preparation })
    }

    /// Where it listens: the port that was chosen, when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` comes, then finishes what is in flight within `server.shutdown_timeout` and closes
    /// the database.
    ///
    /// # Errors
    /// When the server breaks off by itself.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let Self { server, storage, preparation, .. } = self;
        let handle = server.handle();
        let mut serving = tokio::spawn(server);
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = shutdown => {
                handle.stop(true).await;
                serving.await
            }
            // Goes on beside serving, and never ends.
            never = prepare(preparation) => match never {},
        };
        storage.close().await;
        ended.map_err(io::Error::other)?
    }
}

/// Takes a port. Many may knock at once: a short backlog would make their connections fail before we see them.
fn listen(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = if bind.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait until the last connections of the one before are forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(bind)?;
    socket.listen(1024)?.into_std()
}

/// Wires the use cases: what the command line needs, too.
///
/// # Errors
/// When a key cannot be used, or the system gives no threads.
pub fn auth(settings: &Settings, storage: Storage) -> Result<Auth, StartError> {
    let jwt = &settings.jwt;
    let data_dir = settings.data_dir();
    let key = |configured: &Option<SecretString>, name: &str| match configured {
        Some(key) => Ok(Secret::new(key)),
        // Only in development: production does not get past its settings without keys.
        None => keys::load_or_create(&data_dir, name).map(|key| Secret::new(&key)),
    };
    let issuer = Issuer {
        iss: settings.issuer().to_owned(),
        aud: jwt.audience.clone(),
        names: http::token_names(settings),
        access_lifetime: jwt.access_token_lifetime,
        leeway: jwt.leeway,
    };
    let tokens = Tokens::new(issuer, key(&jwt.signing_key, "signing_key")?, key(&jwt.refresh_key, "refresh_key")?)?;
    let passwords = Passwords::start(&settings.passwords).map_err(StartError::Threads)?;
    Ok(Auth::new(settings, storage, passwords, tokens))
}

/// What must be done once before the service can serve.
struct Preparation {
    state: Data<State>,
    storage: Storage,
    clock: Clock,
    migrates: bool,
    first_superuser: Option<(crate::domain::Email, SecretString)>,
}

impl Preparation {
    async fn run(&self) -> Result<(), StartError> {
        use crate::auth::AuthError;
        use secrecy::ExposeSecret;
        if self.migrates {
            self.storage.migrate().await?;
        }
        let Some((email, password)) = &self.first_superuser else { return Ok(()) };
        match Operator(self.state.auth()).bootstrap(email, password.expose_secret(), self.clock.now()).await {
            Ok(Some(user)) => tracing::info!(user.id = user.id.0, "made the first superuser"),
            Ok(None) => {}
            Err(AuthError::Unavailable) => return Err(StorageError::Unavailable("at the start".to_owned()).into()),
            Err(error) => return Err(StartError::Bootstrap(error)),
        }
        Ok(())
    }
}

/// Prepares a database that was away at the start, as soon as it is there.
async fn prepare(due: Option<Preparation>) -> Infallible {
    if let Some(due) = due {
        while let Err(error) = due.run().await {
            if !matches!(error, StartError::Storage(StorageError::Unavailable(_))) {
                tracing::error!("cannot prepare the database: {error}");
            }
            tokio::time::sleep(RETRY).await;
        }
    }
    pending().await
}
