//! A replica connects to a different database server: a server in recovery, a promoted standby, or a pooler.
//!
//! In a failover a standby is promoted, the old primary returns as a standby, and the DNS name of the database moves, in
//! any order. A replica that connects meanwhile may reach a lagging server in recovery, whose revocation feed misses
//! sessions that have ended. In these drills a proxy stands for the name.

use crate::support::{
    Endpoint, PASSWORD, SignedIn, email, eventually,
    postgres::OwnPostgres,
    process::{CHEAP_HASHES, KillOnDrop, Service, find_program, free_port, run},
    proxy::Proxy,
    within,
};
use futures_util::future::{join, join_all};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    str::FromStr,
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// `revocation.max_staleness` in `start`.
const MAX_STALENESS: Duration = Duration::from_secs(2);

/// Replicas that start in one folder share its keys.
fn start(folder: &TempDir, url: &str, more: &[(&str, &str)]) -> Service {
    let settings = [
        ("REVOCATION__POLL_INTERVAL", "200ms"),
        ("REVOCATION__MAX_STALENESS", "2s"),
        // Each worker has its own connections.
        ("SERVER__WORKERS", "2"),
        ("DATABASE__ACQUIRE_TIMEOUT", "1s"),
        ("PASSWORDS__QUEUE_TIMEOUT", "20s"),
    ];
    Service::with_database(folder.path(), url, &[&CHEAP_HASHES, &settings[..], more].concat())
}

const WITHOUT_MIGRATION: &[(&str, &str)] = &[("DATABASE__MIGRATE_ON_START", "false")];

fn through(name: &Proxy) -> String {
    format!("postgres://signet@{}/postgres", name.address())
}

/// Checks for a second, in which the feed is polled several times.
async fn assert_stays_unready(replica: &Endpoint) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(replica.readiness().await, 503);
        sleep(Duration::from_millis(20)).await;
    }
}

/// Two replicas, three sessions of one user, and the replies to the requests of a drill.
struct Scene {
    /// The replica whose database name moves late.
    first: Service,
    /// The replica whose database name moves as soon as there is a new primary.
    second: Service,
    /// This session never ends.
    live: SignedIn,
    /// The second replica ended this session on the old primary, before the failover.
    before: SignedIn,
    /// The second replica ends this session on the new primary.
    meanwhile: SignedIn,
    /// The time of the reply to the sign-out of `meanwhile`.
    ended_at: Cell<Option<Instant>>,
    /// The e-mail of another user, for repeated sign-ins.
    visitor: String,
    is_over: Cell<bool>,
    replies: RefCell<BTreeMap<(&'static str, u16), usize>>,
    _folder: TempDir,
}

impl Scene {
    async fn begin(first_name: &Proxy, second_name: &Proxy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let first = start(&folder, &through(first_name), &[]);
        let second = start(&folder, &through(second_name), &[]);
        for replica in [&first, &second] {
            eventually(200, async || replica.readiness().await).await;
        }
        let live = first.user().await;
        let before = first.sign_in(&live.email).await;
        let meanwhile = first.sign_in(&live.email).await;
        let visitor = first.user().await.email;
        assert_eq!(second.sign_out(&before.refresh).await.status, 204);
        eventually(401, async || first.verify(&before.access).await).await;
        let (ended_at, is_over, replies) = (Cell::new(None), Cell::new(false), RefCell::default());
        Self { first, second, live, before, meanwhile, ended_at, visitor, is_over, replies, _folder: folder }
    }

    /// Sends requests to both replicas and checks each reply, until `drill` is over.
    async fn watched(&self, drill: impl Future<Output = ()>) {
        let drill = async {
            drill.await;
            self.is_over.set(true);
        };
        let watches = [&self.first, &self.second].map(|replica| join(self.verifies(replica), self.requests(replica)));
        join(drill, join_all(watches)).await;
        let replies = self.replies.borrow();
        println!("drill: {replies:?}");
        // The database was away for longer than `max_staleness`, and came back.
        for request in [("verify", 200), ("verify", 503), ("sign in", 200), ("sign in", 503)] {
            assert!(replies.contains_key(&request), "{request:?} is not in {replies:?}");
        }
    }

    /// Requests that are answered from memory.
    async fn verifies(&self, replica: &Endpoint) {
        let mut is_refused = false;
        while !self.is_over.get() {
            self.note("verify", replica.verify(&self.live.access).await, 200);
            let status = replica.verify(&self.before.access).await;
            assert_eq!(status, 401, "a known revocation is always in force");
            let asked_at = Instant::now();
            let status = replica.verify(&self.meanwhile.access).await;
            let ended_for = self.ended_at.get().map(|at| asked_at.saturating_duration_since(at));
            let is_too_late = ended_for.is_some_and(|length| length > MAX_STALENESS);
            let is_right = match status {
                200 => !is_refused && !is_too_late,
                503 => !is_refused,
                401 => true,
                _ => false,
            };
            assert!(is_right, "{status} for a session that ended {ended_for:?} ago");
            is_refused |= status == 401;
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Requests that query the database.
    async fn requests(&self, replica: &Endpoint) {
        while !self.is_over.get() {
            self.note("create", replica.create(&email()).await.status, 201);
            self.note("sign in", replica.try_sign_in(&self.visitor, PASSWORD).await.status, 200);
            self.note("refresh", replica.refresh(&self.live.refresh).await.status, 200);
            self.note("refresh an ended session", replica.refresh(&self.before.refresh).await.status, 401);
            self.note("me", replica.bearer(&self.live.access).get("/auth/users/me").await.status, 200);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Counts a reply, which must be `right` or 503.
    fn note(&self, request: &'static str, status: u16, right: u16) {
        assert!([right, 503].contains(&status), "{request}: {status}");
        *self.replies.borrow_mut().entry((request, status)).or_default() += 1;
    }

    /// The name points at a server in recovery. The first replica connects there and is not ready while the name points
    /// there; after `max_staleness` it accepts no access token.
    async fn first_reaches_a_server_in_recovery(&self, name: &Proxy) {
        let so_far = name.connections();
        eventually(true, async || name.connections() > so_far).await;
        eventually(503, async || self.first.readiness().await).await;
        let verify = self.first.bearer(&self.live.access);
        let code = async || verify.get("/auth/verify").await.code().to_owned();
        eventually("revocations-stale".to_owned(), code).await;
        assert_stays_unready(&self.first).await;
    }

    async fn second_ends_a_session(&self) {
        eventually(204, async || self.second.sign_out(&self.meanwhile.refresh).await.status).await;
        self.ended_at.set(Some(Instant::now()));
    }

    /// The name points at the new primary.
    async fn first_becomes_ready(&self) {
        let length = eventually(200, async || self.first.readiness().await).await;
        println!("drill: ready after {:.1} s", length.as_secs_f64());
    }

    /// The first replica is ready: it refuses both ended sessions, and both replicas serve.
    async fn assert_recovered(&self) {
        let began = Instant::now();
        for ended in [&self.before, &self.meanwhile] {
            eventually(401, async || self.first.verify(&ended.access).await).await;
        }
        let length = began.elapsed();
        assert!(length < Duration::from_secs(1), "{length:?}");
        for replica in [&self.first, &self.second] {
            eventually(200, async || replica.readiness().await).await;
            eventually(200, async || replica.try_sign_in(&self.visitor, PASSWORD).await.status).await;
            eventually(200, async || replica.refresh(&self.live.refresh).await.status).await;
            assert_eq!(replica.verify(&self.live.access).await, 200);
            for ended in [&self.before, &self.meanwhile] {
                assert_eq!(replica.verify(&ended.access).await, 401);
                eventually(401, async || replica.refresh(&ended.refresh).await.status).await;
            }
        }
    }
}

/// Server A stops. The name moves to its standby B, and the first replica connects to B. B is promoted.
#[tokio::test]
async fn a_replica_on_a_standby_is_503_until_the_promotion_and_misses_no_revocation() {
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
        scene.assert_recovered().await;
    };
    scene.watched(Box::pin(drill)).await;
}

/// Server A stops. Its standby B is promoted, and A returns as a lagging standby of B. The name still points at A, and
/// the first replica connects to A; the second is on B and ends a session. Then the name moves to B, and connections to
/// A stay open.
#[tokio::test]
async fn a_replica_on_the_demoted_server_is_503_until_it_moves_and_misses_no_revocation() {
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
        scene.assert_recovered().await;
    };
    scene.watched(Box::pin(drill)).await;
}

/// The name points at a lagging standby while a replica starts. Then it moves to the primary, and connections to the
/// standby stay open: only the replica itself can find out that it reads the feed of the wrong server.
#[tokio::test]
async fn a_replica_that_started_on_a_lagging_standby_moves_to_the_primary_and_misses_no_revocation() {
    let Some(primary) = OwnPostgres::start().await else { return };
    let standby = primary.standby().await;
    let folder = tempfile::tempdir().unwrap();
    let second = start(&folder, &primary.url(), &[]);
    eventually(200, async || second.readiness().await).await;
    let user = second.user().await.email;
    standby.catches_up_with(&primary).await;
    standby.pause_replay().await;

    let name = Proxy::start(standby.address()).await;
    let first = start(&folder, &through(&name), WITHOUT_MIGRATION);
    eventually(true, async || name.connections() > 0).await;
    assert_stays_unready(&first).await;
    assert_eq!(first.try_sign_in(&user, PASSWORD).await.code(), "unavailable");
    eventually(true, async || first.has_logged("the server is in recovery")).await;

    name.point_at(primary.address());
    eventually(200, async || first.readiness().await).await;
    eventually(200, async || first.try_sign_in(&user, PASSWORD).await.status).await;
    let session = second.sign_in(&user).await;
    assert_eq!(first.verify(&session.access).await, 200);
    assert_eq!(second.sign_out(&session.refresh).await.status, 204);
    let ended_at = Instant::now();
    // The first replica is on the primary, so it learns of the revocation; until then it is 503 or less than
    // `max_staleness` behind.
    within(10, async {
        loop {
            let asked_at = Instant::now();
            let status = first.verify(&session.access).await;
            let is_late = asked_at > ended_at + MAX_STALENESS + Duration::from_secs(1);
            assert!(status == 401 || status == 503 || (status == 200 && !is_late), "{status}");
            if status == 401 {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(first.refresh(&session.refresh).await.status, 401);
}

/// `PgBouncer` between the service and a server.
struct Pooler {
    port: u16,
    _child: KillOnDrop,
}

impl Pooler {
    /// Starts `PgBouncer` with `pooling` and the settings that have no default. It has no Unix socket, which would
    /// outlive the test.
    async fn start(program: &Path, postgres: &OwnPostgres, pooling: &str) -> Self {
        let (file, users) = (postgres.folder().join("pgbouncer.ini"), postgres.folder().join("users.txt"));
        fs::write(&users, "\"signet\" \"\"\n").unwrap();
        let address = postgres.address();
        let (host, server_port) = address.split_once(':').unwrap();
        within(20, async {
            loop {
                // If another process takes the port first, PgBouncer ends and the next port is tried.
                let port = free_port();
                let settings = format!(
                    "[databases]\npostgres = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                     listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n{pooling}\n",
                    users.display()
                );
                fs::write(&file, settings).unwrap();
                let mut command = postgres.as_server(program);
                let mut child = KillOnDrop(command.arg(&file).stderr(Stdio::null()).spawn().unwrap());
                if child.accepts_connections(&format!("127.0.0.1:{port}")).await {
                    return Self { port, _child: child };
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
async fn pgbouncer_with_session_pooling_serves_every_request() {
    let Some(postgres) = OwnPostgres::start().await else { return };
    let Some(program) = find_program("pgbouncer") else { return };
    let pooler = Pooler::start(&program, &postgres, "pool_mode = session").await;
    let folder = tempfile::tempdir().unwrap();
    let service = start(&folder, &pooler.url(), &[]);
    eventually(200, async || service.readiness().await).await;
    let session = service.user().await;
    assert_eq!(service.refresh(&session.refresh).await.status, 200);
    for path in ["/auth/users", "/auth/users/me", "/auth/sessions"] {
        assert_eq!(session.actor.get(path).await.status, 200, "{path}");
    }
    assert_eq!(service.verify(&session.access).await, 200);
    assert_eq!(service.sign_out(&session.refresh).await.status, 204);
    assert_eq!(service.verify(&session.access).await, 401);
    assert_eq!(service.refresh(&session.refresh).await.status, 401);
    let log = service.log();
    assert!(!log.contains(" ERROR "), "{log}");
}

#[tokio::test]
async fn pgbouncer_with_transaction_pooling_is_503_and_the_log_names_the_pooler() {
    let Some(postgres) = OwnPostgres::start().await else { return };
    let Some(program) = find_program("pgbouncer") else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = postgres.url();
    let migrated = run(folder.path(), &[("SIGNET__DATABASE__URL", url.as_str())], &["migrate"], "");
    assert!(migrated.status.success(), "{migrated:?}");
    // With one connection to the server, every client finds the statements that another client has prepared. The
    // requests below query outside a transaction, because PgBouncer closes a connection whose client disconnects within
    // one.
    let mut pooling = "pool_mode = transaction\ndefault_pool_size = 1".to_owned();
    if supports_prepared_statements(&program) {
        pooling += "\nmax_prepared_statements = 0";
    }
    let pooler = Pooler::start(&program, &postgres, &pooling).await;
    let connect = PgConnectOptions::from_str(&pooler.url()).unwrap().extra_float_digits(None::<i8>);
    let mut other_client = Box::pin(PgConnection::connect_with(&connect)).await.unwrap();
    sqlx::query("SELECT 1").execute(&mut other_client).await.unwrap();
    let service = start(&folder, &pooler.url(), WITHOUT_MIGRATION);
    for _ in 0..4 {
        assert_eq!(service.readiness().await, 503);
    }
    // A request succeeds while its statement happens to have a name that no client has used on the server's connection.
    let sign_in = async || service.try_sign_in(&email(), PASSWORD).await.code().to_owned();
    eventually("unavailable".to_owned(), sign_in).await;
    eventually(true, async || service.has_logged("pooler")).await;
}

/// `PgBouncer` 1.21 and later supports prepared statements and the setting that turns this off.
fn supports_prepared_statements(program: &Path) -> bool {
    let version = Command::new(program).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    version.split('.').nth(1).unwrap().parse::<u32>().unwrap() >= 21
}
