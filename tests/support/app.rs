//! The service, started as `main` starts it.

use super::{
    Actor, PASSWORD, Reply, TestDatabase,
    actor::{Names, http_client},
    email,
};
use signet::{
    app::{self, App, KeyReloader, KeysError},
    auth::Auth,
    clock::Clock,
    config::{Settings, Sources},
    storage::Storage,
    telemetry::HashWaits,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread::JoinHandle,
};
use tokio::sync::oneshot;

pub const SIGNING_KEY: &str = "a key that only the tests know: signing";
pub const REFRESH_KEY: &str = "a key that only the tests know: refresh";

/// What tests set unless they are about it: a port of the system's choice, and hashes that cost next to nothing.
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
    ("TELEMETRY__LOG", "off"),
];

/// Settings as a container would get them; what comes later wins.
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

/// A service and its thread.
struct Running {
    address: SocketAddr,
    key_reloader: KeyReloader,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    async fn start(settings: Settings, clock: Clock) -> Self {
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
        Self { address, key_reloader, stop: Some(stop), thread: Some(thread) }
    }

    fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A running service, its database and its clock.
pub struct TestApp {
    pub address: SocketAddr,
    pub database: TestDatabase,
    now: Arc<AtomicI64>,
    running: Running,
    client: reqwest::Client,
    names: Names,
}

/// A second service on the database of the first.
pub struct Replica {
    running: Running,
    client: reqwest::Client,
}

impl Replica {
    /// What this replica does every ten seconds.
    pub fn look_at_keys(&self) -> Result<(), KeysError> {
        self.running.key_reloader.reload_folder()
    }

    pub fn anon(&self) -> Actor {
        Actor::new(self.client.clone(), self.running.address, None)
    }

    pub fn bearer(&self, token: &str) -> Actor {
        Actor::new(self.client.clone(), self.running.address, Some(token.to_owned()))
    }

    pub async fn refresh(&self, refresh_token: &str) -> Reply {
        self.anon().post("/auth/refresh-access", &serde_json::json!({ "refresh_token": refresh_token })).await
    }

    /// What `GET /auth/verify` answers.
    pub async fn verify(&self, access_token: &str) -> u16 {
        self.bearer(access_token).get("/auth/verify").await.status
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

    /// A service on a database that is there already.
    pub async fn on(database: TestDatabase, changes: &[(&str, &str)]) -> Self {
        let now = Arc::new(AtomicI64::new(Clock::System.now().0));
        let running = Running::start(settings(&database, changes), Clock::Manual(Arc::clone(&now))).await;
        let is_renamed = changes.iter().any(|(name, _)| name.ends_with("_TOKEN_NAME"));
        let names = if is_renamed { Names::Others } else { Names::Usual };
        Self { address: running.address, database, now, running, client: http_client(), names }
    }

    /// Another service on the same database, with the same clock.
    pub async fn replica(&self, changes: &[(&str, &str)]) -> Replica {
        let running = Running::start(settings(&self.database, changes), Clock::Manual(Arc::clone(&self.now))).await;
        Replica { running, client: http_client() }
    }

    /// What SIGHUP does: loads the keys that these settings name.
    pub fn reload_keys(&self, changes: &[(&str, &str)]) -> Result<String, KeysError> {
        self.running.key_reloader.reload(&settings(&self.database, changes))
    }

    /// What the service does every ten seconds.
    pub fn look_at_keys(&self) -> Result<(), KeysError> {
        self.running.key_reloader.reload_folder()
    }

    /// Moves the only clock there is.
    pub fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Sets the clock to the machine's.
    pub fn catch_up(&self) {
        self.now.store(Clock::System.now().0, Ordering::SeqCst);
    }

    pub fn now(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    /// Asks the service to stop; [`TestApp::stopped`] waits for it.
    pub fn stop(&mut self) {
        self.running.stop();
    }

    pub fn has_stopped(&self) -> bool {
        self.running.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub fn stopped(&mut self) {
        self.stop();
        if let Some(thread) = self.running.thread.take() {
            thread.join().expect("the service stops without a panic");
        }
    }

    /// Somebody without a token.
    pub fn anon(&self) -> Actor {
        Actor::new(self.client.clone(), self.address, None).with_names(self.names)
    }

    /// Somebody with this token.
    pub fn bearer(&self, token: &str) -> Actor {
        Actor::new(self.client.clone(), self.address, Some(token.to_owned())).with_names(self.names)
    }

    /// Somebody who signed up and signed in.
    pub async fn user(&self) -> SignedIn {
        self.user_named(&email()).await
    }

    pub async fn user_named(&self, email: &str) -> SignedIn {
        let created = self.create(email).await;
        assert_eq!(created.status, 201, "{created:?}");
        let id = created.json["id"].as_i64().unwrap();
        let mut signed_in = self.sign_in(email).await;
        signed_in.id = id;
        signed_in
    }

    /// Somebody with rights, given behind the service's back.
    pub async fn staff(&self) -> SignedIn {
        let user = self.user().await;
        self.database.execute(&format!("UPDATE users SET is_staff = TRUE WHERE id = {}", user.id)).await;
        user
    }

    pub async fn create(&self, email: &str) -> Reply {
        self.anon().post("/auth/create", &serde_json::json!({ "email": email, "password": PASSWORD })).await
    }

    pub async fn sign_in(&self, email: &str) -> SignedIn {
        let body = serde_json::json!({ "email": email, "password": PASSWORD });
        let reply = self.anon().post("/auth/signin", &body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let access = reply.json["access_token"].as_str().unwrap().to_owned();
        let refresh = reply.json["refresh_token"].as_str().unwrap().to_owned();
        SignedIn { id: 0, email: email.to_owned(), actor: self.bearer(&access), access, refresh }
    }

    pub async fn refresh(&self, refresh_token: &str) -> Reply {
        self.anon().post("/auth/refresh-access", &serde_json::json!({ "refresh_token": refresh_token })).await
    }

    /// What `GET /auth/verify` answers.
    pub async fn verify(&self, access_token: &str) -> u16 {
        self.bearer(access_token).get("/auth/verify").await.status
    }

    /// The database, as a command line beside the service opens it.
    pub async fn storage(&self) -> Storage {
        Storage::open(&settings(&self.database, &[("DATABASE__ACQUIRE_TIMEOUT", "10s")]), 1).await.unwrap()
    }

    pub async fn sign_out(&self, refresh_token: &str) -> Reply {
        self.anon().post("/auth/signout", &serde_json::json!({ "refresh_token": refresh_token })).await
    }
}

/// A user, its tokens, and somebody who uses them.
pub struct SignedIn {
    pub id: i64,
    pub email: String,
    pub access: String,
    pub refresh: String,
    pub actor: Actor,
}
