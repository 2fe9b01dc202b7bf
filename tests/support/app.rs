//! The service, started as `main` starts it.

use super::{Actor, Endpoint, SignedIn, TestDatabase, actor::TokenNames};
use secrecy::ExposeSecret;
use signet::{
    app::{self, App, KeyReloader, KeysError},
    auth::{Auth, ClientAdmin, NewClient, UserAdmin},
    clock::Clock,
    config::{Settings, Sources},
    domain::Timestamp,
    storage::Storage,
    telemetry::HashWaits,
};
use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread::JoinHandle,
};
use tokio::sync::oneshot;

pub const SIGNING_KEY: &str = "a key that only the tests know: signing";
pub const REFRESH_KEY: &str = "a key that only the tests know: refresh";

/// The defaults of tests: a free port, and password hashes that cost almost nothing.
const DEFAULTS: &[(&str, &str)] = &[
    ("SERVER__BIND", "127.0.0.1:0"),
    ("SERVER__WORKERS", "1"),
    ("DATABASE__MIGRATE_ON_START", "true"),
    ("DATABASE__ACQUIRE_TIMEOUT", "1s"),
    ("JWT__SIGNING_KEY", SIGNING_KEY),
    ("JWT__REFRESH_KEY", REFRESH_KEY),
    ("PASSWORDS__MEMORY_KIB", "8"),
    ("PASSWORDS__ITERATIONS", "1"),
    ("PASSWORDS__HASH_THREADS", "1"),
    ("PASSWORDS__QUEUE", "64"),
    ("PASSWORDS__QUEUE_TIMEOUT", "20s"),
    ("RATE_LIMIT__ENABLED", "false"),
    ("MAIL__SMTP_URL", ""),
    ("TELEMETRY__LOG", "off"),
];

/// The defaults, this database and `changes`, read as environment variables.
pub fn settings(database: &TestDatabase, changes: &[(&str, &str)]) -> Settings {
    let url = database.url();
    let pairs = DEFAULTS.iter().copied().chain([("DATABASE__URL", url.as_str())]).chain(changes.iter().copied());
    let environment = pairs.map(|(name, value)| (format!("SIGNET__{name}"), value.to_owned())).collect();
    app::load_settings(&Sources { directory: None, environment }).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The use cases without HTTP.
pub fn use_cases(settings: &Settings, storage: Storage) -> Auth {
    let passwords = app::start_passwords(&settings.passwords, HashWaits::default()).unwrap();
    app::auth(settings, storage, passwords, Clock::System.now()).unwrap()
}

/// A running service and its thread.
pub struct Replica {
    endpoint: Endpoint,
    key_reloader: KeyReloader,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Replica {
    async fn start(database: &TestDatabase, changes: &[(&str, &str)], now: &Arc<AtomicI64>) -> Self {
        let (settings, clock) = (settings(database, changes), Clock::Manual(Arc::clone(now)));
        let (stop, stopped) = oneshot::channel();
        let (started, start) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let app = App::build(&settings, clock).await.unwrap_or_else(|error| panic!("{error}"));
                started.send((app.address(), app.key_reloader())).ok().unwrap();
                app.run_until(async { drop(stopped.await) }).await.unwrap();
            });
        });
        let (address, key_reloader) = start.await.expect("the service starts");
        let has_custom_names = changes.iter().any(|(name, _)| name.ends_with("_TOKEN_NAME"));
        let token_names = if has_custom_names { TokenNames::Custom } else { TokenNames::Default };
        Self { endpoint: Endpoint::new(address, token_names), key_reloader, stop: Some(stop), thread: Some(thread) }
    }

    /// Reads `jwt.keys_dir`, as the service does every ten seconds.
    pub fn reload_key_directory(&self) -> Result<(), KeysError> {
        self.key_reloader.reload_folder()
    }

    pub fn has_stopped(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Tells the service to stop, as SIGTERM does.
    pub fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Stops the service and waits for its end.
    pub fn stop(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the service stops without a panic");
        }
    }
}

impl Deref for Replica {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.begin_stop();
    }
}

/// A client of OAuth.
pub struct TestClient {
    pub id: String,
    pub secret: String,
    /// Authenticates by HTTP Basic.
    pub actor: Actor,
}

/// A running service, its database and its clock.
pub struct TestApp {
    pub database: TestDatabase,
    pub service: Replica,
    now: Arc<AtomicI64>,
}

impl Deref for TestApp {
    type Target = Replica;

    fn deref(&self) -> &Replica {
        &self.service
    }
}

impl TestApp {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A service with some settings changed.
    pub async fn with(changes: &[(&str, &str)]) -> Self {
        Self::on(TestDatabase::create().await, changes).await
    }

    /// A service on this database.
    pub async fn on(database: TestDatabase, changes: &[(&str, &str)]) -> Self {
        let now = Arc::new(AtomicI64::new(Clock::System.now().0));
        let service = Replica::start(&database, changes, &now).await;
        Self { database, service, now }
    }

    /// Stops the service and starts it with these settings, on the same database and with the same clock.
    pub async fn restart(mut self, changes: &[(&str, &str)]) -> Self {
        self.service.stop();
        self.service = Replica::start(&self.database, changes, &self.now).await;
        self
    }

    /// Starts another replica on the same database, with the same clock.
    pub async fn replica(&self, changes: &[(&str, &str)]) -> Replica {
        Replica::start(&self.database, changes, &self.now).await
    }

    /// Loads the keys that these settings name, as SIGHUP does.
    pub fn reload_keys(&self, changes: &[(&str, &str)]) -> Result<String, KeysError> {
        self.service.key_reloader.reload(&settings(&self.database, changes))
    }

    /// Moves the clock of the service.
    pub fn advance(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Sets the clock of the service to the system time.
    pub fn sync_clock(&self) {
        self.now.store(Clock::System.now().0, Ordering::SeqCst);
    }

    pub fn now(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    /// Signs a new user up and in, and makes it staff in the database.
    pub async fn staff(&self) -> SignedIn {
        let user = self.user().await;
        self.database.execute(&format!("UPDATE users SET is_staff = TRUE WHERE id = {}", user.id)).await;
        user
    }

    /// Signs a new user up and in, and makes it a superuser in the database.
    pub async fn superuser(&self) -> SignedIn {
        let user = self.user().await;
        let sql = format!("UPDATE users SET is_staff = TRUE, is_superuser = TRUE WHERE id = {}", user.id);
        self.database.execute(&sql).await;
        user
    }

    /// Opens the database as a `signet` command does while the service runs.
    pub async fn storage(&self) -> Storage {
        Storage::open(&settings(&self.database, &[("DATABASE__ACQUIRE_TIMEOUT", "10s")]), 1).await.unwrap()
    }

    /// Makes a client with these scopes and audiences.
    pub async fn client(&self, scopes: &str, audiences: &[&str]) -> TestClient {
        let all = audiences.join(",");
        let settings = settings(&self.database, &[("JWT__AUDIENCES", &all)]);
        let admin = ClientAdmin::new(self.storage().await, &settings);
        let audiences = audiences.iter().map(|&audience| audience.to_owned()).collect();
        let new = NewClient { name: "a service".to_owned(), scopes: scopes.parse().unwrap(), audiences };
        let (client, secret) = admin.create(new, &Timestamp(self.now()).into()).await.unwrap();
        let (id, secret) = (client.id.to_string(), secret.expose_secret().to_owned());
        TestClient { actor: self.basic(&id, &secret), id, secret }
    }

    /// The use cases of `signet user`, on the database of the running service.
    pub async fn user_admin(&self) -> UserAdmin {
        let settings = settings(&self.database, &[]);
        let passwords = app::start_passwords(&settings.passwords, HashWaits::default()).unwrap();
        UserAdmin::new(self.storage().await, Arc::new(passwords), &settings)
    }
}
