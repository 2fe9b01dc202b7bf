//! The database that the service reaches is not the primary that it was: a server in recovery, a standby that was
//! promoted, or a pooler in front of the server.
//!
//! In a failover a standby is promoted, the old primary returns as a standby, and the name that clients connect to is
//! moved, in no certain order. A replica that connects meanwhile may reach a server in recovery, which may lag: a feed
//! of revocations that is read there does not tell which sessions have ended. In these drills a proxy is the name.

use crate::support::{
    PASSWORD, Reply, email, eventually,
    postgres::{OwnPostgres, free_port},
    process::{Killed, Service, run},
    proxy::Proxy,
    within,
};
use futures_util::future::{join, join_all};
use serde_json::json;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

/// How old the knowledge of what has ended may be; `SETTINGS` say the same.
const MAX_STALENESS: Duration = Duration::from_secs(2);

const SETTINGS: &[(&str, &str)] = &[
    ("SIGNET__REVOCATION__POLL_INTERVAL", "200ms"),
    ("SIGNET__REVOCATION__MAX_STALENESS", "2s"),
    // Each worker has connections of its own.
    ("SIGNET__SERVER__WORKERS", "2"),
    ("SIGNET__DATABASE__ACQUIRE_TIMEOUT", "1s"),
    ("SIGNET__RATE_LIMIT__ENABLED", "false"),
    ("SIGNET__PASSWORDS__MEMORY_KIB", "8"),
    ("SIGNET__PASSWORDS__ITERATIONS", "1"),
    ("SIGNET__PASSWORDS__QUEUE_TIMEOUT", "20s"),
    ("SIGNET__TELEMETRY__LOG", "warn"),
];

const MIGRATES: &[(&str, &str)] = &[("SIGNET__DATABASE__MIGRATE_ON_START", "true")];

/// Replicas that start in one folder share its keys.
fn start(folder: &TempDir, url: &str, more: &[(&str, &str)]) -> Service {
    Service::start(folder.path(), &[SETTINGS, &[("SIGNET__DATABASE__URL", url)], more].concat())
}

fn through(name: &Proxy) -> String {
    format!("postgres://signet@{}/postgres", name.address())
}

struct Session {
    access: String,
    refresh: String,
    /// When the reply to its sign-out came.
    ended_at: Cell<Option<Instant>>,
}

async fn readiness(replica: &Service) -> u16 {
    replica.anon().get("/readyz").await.status
}

/// For a second, in which the feed is polled several times.
async fn stays_unready(replica: &Service) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(readiness(replica).await, 503);
        sleep(Duration::from_millis(20)).await;
    }
}

async fn create(replica: &Service, address: &str) -> u16 {
    replica.anon().post("/auth/create", &json!({"email": address, "password": PASSWORD})).await.status
}

async fn sign_in(replica: &Service, address: &str) -> Reply {
    replica.anon().post("/auth/signin", &json!({"email": address, "password": PASSWORD})).await
}

async fn begin_session(replica: &Service, address: &str) -> Session {
    let reply = sign_in(replica, address).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let token = |name: &str| reply.json[name].as_str().unwrap().to_owned();
    Session { access: token("access_token"), refresh: token("refresh_token"), ended_at: Cell::new(None) }
}

async fn verify(replica: &Service, session: &Session) -> Reply {
    replica.bearer(&session.access).get("/auth/verify").await
}

async fn refresh(replica: &Service, session: &Session) -> u16 {
    replica.anon().post("/auth/refresh-access", &json!({"refresh_token": session.refresh})).await.status
}

async fn sign_out(replica: &Service, session: &Session) -> u16 {
    replica.anon().post("/auth/signout", &json!({"refresh_token": session.refresh})).await.status
}

/// Two replicas, three sessions, and what was answered to the requests of a drill.
struct Scene {
    /// Its name for the database is moved late.
    first: Service,
    /// Its name for the database is moved as soon as there is a new primary.
    second: Service,
    /// Never ended.
    live: Session,
    /// The second replica ended it on the old primary, before the failover.
    before: Session,
    /// The second replica ends it on the new primary.
    meanwhile: Session,
    /// A user with sessions that do not matter: the oldest end while others begin.
    visitor: String,
    is_over: Cell<bool>,
    answers: RefCell<BTreeMap<(&'static str, u16), usize>>,
    _folder: TempDir,
}

impl Scene {
    async fn begin(first_name: &Proxy, second_name: &Proxy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let first = start(&folder, &through(first_name), MIGRATES);
        let second = start(&folder, &through(second_name), MIGRATES);
        for replica in [&first, &second] {
            eventually(200, async || readiness(replica).await).await;
        }
        let (user, visitor) = (email(), email());
        assert_eq!((create(&first, &user).await, create(&first, &visitor).await), (201, 201));
        let live = begin_session(&first, &user).await;
        let before = begin_session(&first, &user).await;
        let meanwhile = begin_session(&first, &user).await;
        assert_eq!(sign_out(&second, &before).await, 204);
        eventually(401, async || verify(&first, &before).await.status).await;
        let (is_over, answers) = (Cell::new(false), RefCell::default());
        Self { first, second, live, before, meanwhile, visitor, is_over, answers, _folder: folder }
    }

    /// Sends requests to both replicas and judges each answer, until `drill` is over.
    async fn watched(&self, drill: impl Future<Output = ()>) {
        let drill = async {
            drill.await;
            self.is_over.set(true);
        };
        let watches = [&self.first, &self.second].map(|replica| join(self.verifies(replica), self.requests(replica)));
        join(drill, join_all(watches)).await;
        let answers = self.answers.borrow();
        println!("drill: {answers:?}");
        // The database was away for long enough, and is back.
        for request in [("verify", 204), ("verify", 503), ("sign in", 200), ("sign in", 503)] {
            assert!(answers.contains_key(&request), "{request:?} is not in {answers:?}");
        }
    }

    /// Requests that are answered from memory.
    async fn verifies(&self, replica: &Service) {
        let mut is_refused = false;
        while !self.is_over.get() {
            self.note("verify", verify(replica, &self.live).await.status, 204);
            let status = verify(replica, &self.before).await.status;
            assert_eq!(status, 401, "a session that the replica knows to have ended is refused at all times");
            let asked_at = Instant::now();
            let status = verify(replica, &self.meanwhile).await.status;
            let ended_for = self.meanwhile.ended_at.get().map(|at| asked_at.saturating_duration_since(at));
            let is_too_late = ended_for.is_some_and(|length| length > MAX_STALENESS);
            let is_right = match status {
                204 => !is_refused && !is_too_late,
                503 => !is_refused,
                401 => true,
                _ => false,
            };
            assert!(is_right, "{status} for a session that ended {ended_for:?} ago");
            is_refused |= status == 401;
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Requests that ask the database.
    async fn requests(&self, replica: &Service) {
        while !self.is_over.get() {
            self.note("create", create(replica, &email()).await, 201);
            self.note("sign in", sign_in(replica, &self.visitor).await.status, 200);
            self.note("refresh", refresh(replica, &self.live).await, 200);
            self.note("refresh what has ended", refresh(replica, &self.before).await, 401);
            self.note("me", replica.bearer(&self.live.access).get("/auth/users/me").await.status, 200);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// An answer is the right one, or 503.
    fn note(&self, request: &'static str, status: u16, right: u16) {
        assert!([right, 503].contains(&status), "{request}: {status}");
        *self.answers.borrow_mut().entry((request, status)).or_default() += 1;
    }

    /// The name points at a server in recovery. The first replica reaches that server, is not ready for as long as the
    /// name points there, and after `max_staleness` trusts no access token.
    async fn first_reaches_a_server_in_recovery(&self, name: &Proxy) {
        let so_far = name.carried();
        eventually(true, async || name.carried() > so_far).await;
        eventually(503, async || readiness(&self.first).await).await;
        let code = async || verify(&self.first, &self.live).await.code().to_owned();
        eventually("revocations-stale".to_owned(), code).await;
        stays_unready(&self.first).await;
    }

    async fn second_ends_a_session(&self) {
        eventually(204, async || sign_out(&self.second, &self.meanwhile).await).await;
        self.meanwhile.ended_at.set(Some(Instant::now()));
    }

    /// The name points at the new primary.
    async fn first_becomes_ready(&self) {
        let length = eventually(200, async || readiness(&self.first).await).await;
        println!("drill: ready after {:.1} s", length.as_secs_f64());
    }

    /// The first replica is ready: it knows what ended before and meanwhile, and both replicas serve.
    async fn is_well(&self) {
        let began = Instant::now();
        for ended in [&self.before, &self.meanwhile] {
            eventually(401, async || verify(&self.first, ended).await.status).await;
        }
        let length = began.elapsed();
        assert!(length < Duration::from_secs(1), "{length:?}");
        for replica in [&self.first, &self.second] {
            eventually(200, async || readiness(replica).await).await;
            eventually(200, async || sign_in(replica, &self.visitor).await.status).await;
            eventually(200, async || refresh(replica, &self.live).await).await;
            assert_eq!(verify(replica, &self.live).await.status, 204);
            for ended in [&self.before, &self.meanwhile] {
                assert_eq!(verify(replica, ended).await.status, 401);
                eventually(401, async || refresh(replica, ended).await).await;
            }
        }
    }
}

/// Server A stops. The name moves to its standby B, and the first replica connects there. B is promoted.
#[tokio::test]
async fn a_replica_whose_name_moves_to_a_standby_before_its_promotion_is_503_until_then_and_misses_no_revocation() {
    let Some(mut old) = OwnPostgres::start().await else { return };
    let new = old.standby().await;
    let (name, other_name) = (Proxy::start(old.address()).await, Proxy::start(old.address()).await);
    let scene = Scene::begin(&name, &other_name).await;
    new.catches_up_with(&old).await;
    let drill = async {
        old.stop().await;
        name.point_at(new.address());
        scene.first_reaches_a_server_in_recovery(&name).await;
        new.promote().await;
        other_name.point_at(new.address());
        join(scene.second_ends_a_session(), scene.first_becomes_ready()).await;
        scene.is_well().await;
    };
    scene.watched(Box::pin(drill)).await;
}

/// Server A stops. Its standby B is promoted, and A returns as a standby of B, which lags. The name still points at A,
/// and the first replica connects there; the second is on B and ends a session. Then the name moves to B, and what is
/// connected to A stays connected.
#[tokio::test]
async fn a_replica_whose_name_stays_at_the_demoted_server_is_503_until_it_moves_and_misses_no_revocation() {
    let Some(mut old) = OwnPostgres::start().await else { return };
    let new = old.standby().await;
    let (name, other_name) = (Proxy::start(old.address()).await, Proxy::start(old.address()).await);
    let scene = Scene::begin(&name, &other_name).await;
    new.catches_up_with(&old).await;
    let drill = async {
        old.stop().await;
        new.promote().await;
        other_name.point_at(new.address());
        old.follow(&new).await;
        old.pause_replay().await;
        scene.second_ends_a_session().await;
        scene.first_reaches_a_server_in_recovery(&name).await;
        name.point_at(new.address());
        scene.first_becomes_ready().await;
        scene.is_well().await;
    };
    scene.watched(Box::pin(drill)).await;
}

/// The name points at a lagging reader while a replica starts. Then it moves to the primary, and what is connected to
/// the reader stays connected: only the replica itself can find out that it follows the wrong server.
#[tokio::test]
async fn a_replica_that_first_connected_to_a_lagging_reader_refuses_what_another_replica_ends() {
    let Some(primary) = OwnPostgres::start().await else { return };
    let reader = primary.standby().await;
    let folder = tempfile::tempdir().unwrap();
    let second = start(&folder, &primary.url(), MIGRATES);
    eventually(200, async || readiness(&second).await).await;
    let user = email();
    assert_eq!(create(&second, &user).await, 201);
    reader.catches_up_with(&primary).await;
    reader.pause_replay().await;

    let name = Proxy::start(reader.address()).await;
    let first = start(&folder, &through(&name), &[]);
    eventually(true, async || name.carried() > 0).await;
    stays_unready(&first).await;
    assert_eq!(sign_in(&first, &user).await.code(), "unavailable");
    eventually(true, async || first.said("the server is in recovery")).await;

    name.point_at(primary.address());
    eventually(200, async || readiness(&first).await).await;
    eventually(200, async || sign_in(&first, &user).await.status).await;
    let session = begin_session(&second, &user).await;
    assert_eq!(verify(&first, &session).await.status, 204);
    assert_eq!(sign_out(&second, &session).await, 204);
    let ended_at = Instant::now();
    // What it does not know, it does not say for longer than it may. It is on the primary, so it will know.
    within(10, async {
        loop {
            let asked_at = Instant::now();
            let status = verify(&first, &session).await.status;
            let is_late = asked_at > ended_at + MAX_STALENESS + Duration::from_secs(1);
            assert!(status == 401 || status == 503 || (status == 204 && !is_late), "{status}");
            if status == 401 {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(refresh(&first, &session).await, 401);
}

/// `PgBouncer`, where it is installed: Debian's package puts it into `/usr/sbin`.
fn pgbouncer() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let program = folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file());
    if program.is_none() {
        println!("pooler: left out, PgBouncer is not installed");
    }
    program
}

/// `PgBouncer` in front of a server.
struct Pooler {
    port: u16,
    _child: Killed,
}

impl Pooler {
    /// Starts it with `pooling` and with what has no default: the server, where to listen, and which users there are.
    /// (No socket in the file system: it would outlive the test.)
    async fn start(program: &Path, postgres: &OwnPostgres, pooling: &str) -> Self {
        let (file, users) = (postgres.folder().join("pgbouncer.ini"), postgres.folder().join("users.txt"));
        fs::write(&users, "\"signet\" \"\"\n").unwrap();
        let address = postgres.address();
        let (host, server_port) = address.split_once(':').unwrap();
        within(20, async {
            loop {
                // Another process may take it first: then PgBouncer ends, and the next port is tried.
                let port = free_port();
                let settings = format!(
                    "[databases]\npostgres = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                     listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n{pooling}\n",
                    users.display()
                );
                fs::write(&file, settings).unwrap();
                let mut command = postgres.as_server(program);
                let mut child = Killed(command.arg(&file).stderr(Stdio::null()).spawn().unwrap());
                while child.0.try_wait().unwrap().is_none() {
                    if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                        return Self { port, _child: child };
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }
        })
        .await
    }

    fn url(&self) -> String {
        format!("postgres://signet@127.0.0.1:{}/postgres", self.port)
    }
}

#[tokio::test]
async fn pgbouncer_in_its_stock_settings_serves_every_request_when_it_pools_by_session() {
    let Some(postgres) = OwnPostgres::start().await else { return };
    let Some(program) = pgbouncer() else { return };
    let pooler = Pooler::start(&program, &postgres, "pool_mode = session").await;
    let folder = tempfile::tempdir().unwrap();
    let service = start(&folder, &pooler.url(), MIGRATES);
    eventually(200, async || readiness(&service).await).await;
    let user = email();
    assert_eq!(create(&service, &user).await, 201);
    let session = begin_session(&service, &user).await;
    assert_eq!(refresh(&service, &session).await, 200);
    for path in ["/auth/users", "/auth/users/me", "/auth/sessions"] {
        assert_eq!(service.bearer(&session.access).get(path).await.status, 200, "{path}");
    }
    assert_eq!(verify(&service, &session).await.status, 204);
    assert_eq!(sign_out(&service, &session).await, 204);
    assert_eq!((verify(&service, &session).await.status, refresh(&service, &session).await), (401, 401));
    let log = service.log();
    assert!(!log.contains(" ERROR "), "{log}");
}

#[tokio::test]
async fn pgbouncer_that_pools_by_transaction_is_503_and_the_log_names_the_pooler() {
    let Some(postgres) = OwnPostgres::start().await else { return };
    let Some(program) = pgbouncer() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = postgres.url();
    let migrated = run(folder.path(), &[("SIGNET__DATABASE__URL", url.as_str())], &["migrate"], "");
    assert!(migrated.status.success(), "{migrated:?}");
    // One connection to the server, so that every client comes upon the statement that another client has prepared. The
    // requests below ask outside a transaction, because PgBouncer closes a connection whose client leaves within one.
    let mut pooling = "pool_mode = transaction\ndefault_pool_size = 1".to_owned();
    if keeps_statements_apart(&program) {
        pooling += "\nmax_prepared_statements = 0";
    }
    let pooler = Pooler::start(&program, &postgres, &pooling).await;
    let connect = PgConnectOptions::from_str(&pooler.url()).unwrap().extra_float_digits(None::<i8>);
    let mut other_client = Box::pin(PgConnection::connect_with(&connect)).await.unwrap();
    sqlx::query("SELECT 1").execute(&mut other_client).await.unwrap();
    let service = start(&folder, &pooler.url(), &[]);
    for _ in 0..4 {
        assert_eq!(readiness(&service).await, 503);
        assert_eq!(sign_in(&service, &email()).await.code(), "unavailable");
    }
    eventually(true, async || service.said("pooler")).await;
}

/// `PgBouncer` 1.21 and later can keep the prepared statements of its clients apart; an older one does not know the
/// setting.
fn keeps_statements_apart(program: &Path) -> bool {
    let version = Command::new(program).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    version.split('.').nth(1).unwrap().parse::<u32>().unwrap() >= 21
}
