//! Drills: the service is killed, the database is killed, stopped and frozen, connections and disk run out. Each says
//! what was sent, what was answered, what was lost and how long it took until all was well again.

use crate::support::{
    Actor, PASSWORD, TestDatabase,
    actor::http_client,
    email, eventually,
    postgres::{OwnPostgres, free_port},
    process::{Killed, Service, send_signal},
    within,
};
use futures_util::future::{join, join_all};
use serde_json::json;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

/// Hashes that cost next to nothing: these drills are about everything else.
const CHEAP: &[(&str, &str)] = &[
    ("SIGNET__DATABASE__MIGRATE_ON_START", "true"),
    ("SIGNET__DATABASE__ACQUIRE_TIMEOUT", "1s"),
    ("SIGNET__RATE_LIMIT__ENABLED", "false"),
    ("SIGNET__PASSWORDS__MEMORY_KIB", "8"),
    ("SIGNET__PASSWORDS__ITERATIONS", "1"),
    ("SIGNET__PASSWORDS__QUEUE", "1000"),
    ("SIGNET__PASSWORDS__QUEUE_TIMEOUT", "20s"),
    ("SIGNET__TELEMETRY__LOG", "warn"),
];

pub fn start(folder: &TempDir, url: &str, more: &[(&str, &str)]) -> Service {
    Service::start(folder.path(), &[CHEAP, &[("SIGNET__DATABASE__URL", url)], more].concat())
}

/// What came of requests that were sent on and on.
#[derive(Default)]
pub struct Load {
    is_over: Cell<bool>,
    created: RefCell<Vec<String>>,
    pub acknowledged: Cell<usize>,
    pub answers: RefCell<BTreeMap<String, usize>>,
    slowest: Cell<Duration>,
}

impl Load {
    /// Creates users until it is over, each over a connection of its own, and notes those that were acknowledged.
    pub async fn creates(&self, service: &Service) {
        let client =
            reqwest::Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(0).build().unwrap();
        let url = format!("http://{}/auth/create", service.address);
        while !self.is_over.get() {
            let email = email();
            let began = Instant::now();
            let body = json!({"email": email, "password": PASSWORD});
            let reply = client.post(&url).json(&body).timeout(Duration::from_secs(10)).send().await;
            let answer = match reply {
                Ok(reply) => reply.status().as_u16().to_string(),
                // Nobody listened: nothing was sent.
                Err(error) if error.is_connect() => "not connected".to_owned(),
                Err(_) => "broken off".to_owned(),
            };
            if answer == "201" {
                self.created.borrow_mut().push(email);
            }
            self.slowest.set(self.slowest.get().max(began.elapsed()));
            if answer == "not connected" {
                sleep(Duration::from_millis(20)).await;
            }
            *self.answers.borrow_mut().entry(answer).or_default() += 1;
        }
    }

    pub fn over(&self) {
        self.is_over.set(true);
    }

    /// How many of the acknowledged are not there.
    pub async fn lost(&self, service: &Service) -> usize {
        let anon = service.anon();
        let mut lost = 0;
        self.acknowledged.set(self.created.borrow().len());
        for email in self.created.take() {
            let body = json!({"email": email, "password": PASSWORD});
            lost += usize::from(anon.post("/auth/signin", &body).await.status != 200);
        }
        lost
    }

    /// Nothing else was answered, and the database was truly away.
    fn was_right_or_503(&self) {
        let answers = self.answers.borrow();
        let only_these = answers.keys().all(|answer| ["201", "503"].contains(&answer.as_str()));
        assert!(only_these && answers["503"] > 0, "{answers:?}");
    }

    pub fn report(&self, drill: &str, lost: usize, recovered: Duration) {
        println!(
            "drill: {drill}: {:?}, slowest {:.1} s, {lost} of {} acknowledged lost, well again after {:.1} s",
            self.answers.borrow(),
            self.slowest.get().as_secs_f64(),
            self.acknowledged.get(),
            recovered.as_secs_f64()
        );
        assert_eq!(lost, 0, "{drill}");
    }
}

/// The status of one creation.
async fn create(service: &Service) -> u16 {
    let body = json!({"email": email(), "password": PASSWORD});
    service.anon().post("/auth/create", &body).await.status
}

async fn is_ready(service: &Service) -> u16 {
    service.anon().get("/readyz").await.status
}

#[tokio::test]
async fn whoever_was_told_that_they_are_created_is_there_after_the_service_was_killed() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let service = start(&folder, &database.url(), &[]);
        let load = Load::default();
        let killing = async {
            sleep(Duration::from_millis(700)).await;
            service.kill("KILL");
            sleep(Duration::from_millis(100)).await;
            load.over();
        };
        join(join_all((0..8).map(|_| load.creates(&service))), killing).await;
        drop(service);
        let began = Instant::now();
        let again = start(&folder, &database.url(), &[]);
        eventually(200, async || is_ready(&again).await).await;
        let recovered = began.elapsed();
        assert!(load.created.borrow().len() > 10, "there was a load");
        let lost = load.lost(&again).await;
        load.report(&format!("kill -9 of the service, round {round}"), lost, recovered);
    }
}

#[derive(Clone, Copy, Debug)]
enum Blow {
    Stop,
    Kill,
    Freeze,
}

/// Two replicas and a database that is stopped, killed and frozen under load: only 503 or the right answer, in time;
/// nothing that was acknowledged is lost; and all is well again without a restart.
#[tokio::test]
async fn a_database_that_is_stopped_killed_or_frozen_under_load_loses_nothing() {
    let Some(mut postgres) = OwnPostgres::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let replicas = [start(&folder, &postgres.url(), &[]), start(&folder, &postgres.url(), &[])];
    for blow in [Blow::Stop, Blow::Kill, Blow::Freeze] {
        let load = Load::default();
        let recovered = Cell::new(Duration::ZERO);
        let drill = async {
            sleep(Duration::from_millis(500)).await;
            match blow {
                Blow::Stop => postgres.signal("INT", false),
                Blow::Kill => postgres.signal("KILL", true),
                Blow::Freeze => postgres.signal("STOP", true),
            }
            for replica in &replicas {
                let gone = within(8, eventually(503, async || is_ready(replica).await)).await;
                assert!(gone < Duration::from_secs(8));
                assert_eq!(replica.anon().get("/livez").await.status, 200);
            }
            sleep(Duration::from_secs(2)).await;
            match blow {
                Blow::Freeze => postgres.signal("CONT", true),
                _ => postgres.serve().await,
            }
            let began = Instant::now();
            for replica in &replicas {
                eventually(200, async || is_ready(replica).await).await;
                eventually(201, async || create(replica).await).await;
            }
            recovered.set(began.elapsed());
            sleep(Duration::from_millis(300)).await;
            load.over();
        };
        let [one, other] = &replicas;
        let loads = join(join_all((0..4).map(|_| load.creates(one))), join_all((0..4).map(|_| load.creates(other))));
        join(loads, drill).await;
        let lost = load.lost(one).await;
        load.report(&format!("PostgreSQL, {blow:?}"), lost, recovered.get());
        assert!(load.slowest.get() < Duration::from_secs(6) && recovered.get() < Duration::from_secs(10), "{blow:?}");
        load.was_right_or_503();
    }
}

/// Everybody waits for a table that somebody has locked, until there is no connection left.
#[tokio::test]
async fn a_locked_table_is_503_in_time_and_all_is_well_when_it_is_free() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let service = start(&folder, &database.url(), &[("SIGNET__DATABASE__MAX_CONNECTIONS", "2")]);
    let load = Load::default();
    let recovered = Cell::new(Duration::ZERO);
    let drill = async {
        sleep(Duration::from_millis(300)).await;
        let lock = if database.is_sqlite() { "SELECT 1" } else { "LOCK TABLE users IN ACCESS EXCLUSIVE MODE" };
        let lock = database.begin(lock).await;
        sleep(Duration::from_secs(3)).await;
        assert_eq!(service.anon().get("/livez").await.status, 200);
        // A second writer of SQLite does not hinder those who read.
        let readiness = if database.is_sqlite() { 200 } else { 503 };
        assert_eq!(within(4, service.anon().get("/readyz")).await.status, readiness);
        lock.commit().await;
        recovered.set(eventually(201, async || create(&service).await).await);
        load.over();
    };
    join(join_all((0..8).map(|_| load.creates(&service))), drill).await;
    let lost = load.lost(&service).await;
    load.report("a locked table", lost, recovered.get());
    load.was_right_or_503();
    assert!(load.slowest.get() < Duration::from_secs(6));
}

struct Disk(TempDir);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// A disk of 16 megabytes, which only root can make.
#[tokio::test]
async fn a_full_disk_is_503_and_nothing_acknowledged_is_lost() {
    if !TestDatabase::create().await.is_sqlite() {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let mut mount = Command::new("mount");
    let mount = mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(disk.path()).stderr(Stdio::null());
    if !mount.status().is_ok_and(|status| status.success()) {
        println!("drill: a full disk: left out, only root can make one");
        return;
    }
    let disk = Disk(disk);
    let url = format!("sqlite://{}/signet.db", disk.0.path().display());
    let service = start(&disk.0, &url, &[]);
    let load = Load::default();
    let recovered = Cell::new(Duration::ZERO);
    let drill = async {
        sleep(Duration::from_millis(500)).await;
        let ballast = disk.0.path().join("ballast");
        // Until nothing fits any more.
        let _ = fs::write(&ballast, vec![1; 16 * 1024 * 1024]);
        within(10, async {
            while !load.answers.borrow().contains_key("503") {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(service.anon().get("/livez").await.status, 200);
        fs::remove_file(&ballast).unwrap();
        recovered.set(eventually(201, async || create(&service).await).await);
        load.over();
    };
    join(join_all((0..4).map(|_| load.creates(&service))), drill).await;
    let lost = load.lost(&service).await;
    load.report("a full disk", lost, recovered.get());
    load.was_right_or_503();
    drop(service);
}

#[tokio::test]
async fn two_thousand_idle_connections_and_slow_clients_hold_nobody_up() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let service = start(&folder, &database.url(), &[]);
    let mut idle = Vec::new();
    for number in 0..2000 {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        // A third says nothing, a third begins a head, a third begins a body.
        let beginning: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /livez HTTP/1.1\r\nhost: a",
            _ => b"POST /auth/signin HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
        };
        stream.write_all(beginning).await.unwrap();
        idle.push(stream);
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(create(&service).await, 201);
        slowest = slowest.max(began.elapsed());
    }
    println!("drill: 2,000 idle and slow connections: 20 creates, all 201, slowest {:.2} s", slowest.as_secs_f64());
    assert!(slowest < Duration::from_secs(6));
}

#[tokio::test]
async fn with_96_file_descriptors_others_are_served_when_the_idle_were_let_go() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let service = start(&folder, &database.url(), &[("SIGNET__SERVER__REQUEST_TIMEOUT", "2s")]);
    let limit = format!("--nofile=96:96 --pid {}", service.child.0.id());
    assert!(Command::new("prlimit").args(limit.split(' ')).status().unwrap().success());
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(service.address).await.unwrap());
    }
    let began = Instant::now();
    let client = http_client();
    let url = format!("http://{}/livez", service.address);
    within(20, async { while !client.get(&url).send().await.is_ok_and(|reply| reply.status() == 200) {} }).await;
    println!("drill: 96 file descriptors, 200 idle connections: served after {:.1} s", began.elapsed().as_secs_f64());
    // Those that were idle were told so.
    let mut text = String::new();
    let _ = within(10, idle[0].read_to_string(&mut text)).await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert_eq!(create(&service).await, 201);
}

/// A name server that takes questions and answers none. Only root can put one in the place of the machine's.
#[tokio::test]
async fn a_name_server_that_does_not_answer_stops_neither_requests_nor_the_end() {
    let silent = std::net::UdpSocket::bind("127.0.0.5:53");
    let can_mount = || Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if silent.is_err() || !can_mount() {
        println!("name server: left out, needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let resolver = folder.path().join("resolv.conf");
    fs::write(&resolver, "nameserver 127.0.0.5\noptions timeout:30 attempts:5\n").unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut service = Command::new("unshare");
    service.args(["--mount", "sh", "-c", "mount --bind \"$1\" /etc/resolv.conf && exec \"$2\" serve", "sh"]);
    service.arg(&resolver).arg(env!("CARGO_BIN_EXE_signet")).current_dir(folder.path()).stdout(Stdio::null());
    service.env("SIGNET__SERVER__BIND", &address).env("SIGNET__DATABASE__URL", "postgres://signet@database.example/a");
    let mut service = Killed(service.spawn().unwrap());
    within(10, async {
        while TcpStream::connect(&address).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let anon = Actor::new(http_client(), address.parse().unwrap(), None);
    // The port is taken at once; then the start waits for the database for three seconds.
    assert_eq!(within(6, anon.get("/livez")).await.status, 200);
    let body = json!({"email": "ann@example.com", "password": PASSWORD});
    for _ in 0..3 {
        let (created, ()) = join(within(6, anon.post("/auth/create", &body)), async {
            for _ in 0..20 {
                assert_eq!(within(1, anon.get("/livez")).await.status, 200);
                sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        assert_eq!((created.status, created.code()), (503, "unavailable"));
    }
    let began = Instant::now();
    send_signal(&service.0, "TERM");
    let status = within(10, tokio::task::spawn_blocking(move || service.0.wait().unwrap().code())).await.unwrap();
    assert_eq!(status, Some(0));
    println!("name server: ended {:.1} s after SIGTERM", began.elapsed().as_secs_f32());
}
