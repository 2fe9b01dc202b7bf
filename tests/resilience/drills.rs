//! Drills: the service is killed, the database is killed, stopped or frozen, connections or disk space run out. Each
//! prints the replies, the acknowledged users that were lost, and the time to recovery.

use crate::support::{
    Endpoint, PASSWORD, TestDatabase,
    actor::{TokenNames, http_client},
    email, eventually,
    postgres::OwnPostgres,
    process::{CHEAP_HASHES, KillOnDrop, Service, free_port},
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

pub fn start(folder: &TempDir, url: &str, more: &[(&str, &str)]) -> Service {
    let settings =
        [("DATABASE__ACQUIRE_TIMEOUT", "1s"), ("PASSWORDS__QUEUE", "1000"), ("PASSWORDS__QUEUE_TIMEOUT", "20s")];
    Service::with_database(folder.path(), url, &[&CHEAP_HASHES, &settings[..], more].concat())
}

/// Clients that create users until the drill is over, and the replies that they got.
#[derive(Default)]
pub struct Load {
    is_over: Cell<bool>,
    created: RefCell<Vec<String>>,
    pub acknowledged: Cell<usize>,
    pub answers: RefCell<BTreeMap<String, usize>>,
    slowest: Cell<Duration>,
}

impl Load {
    /// Creates users until the drill is over, each over a new connection, and records the acknowledged ones.
    pub async fn creates(&self, service: &Service) {
        let client = http_client().pool_max_idle_per_host(0).build().unwrap();
        let url = format!("http://{}/auth/create", service.address);
        while !self.is_over.get() {
            let email = email();
            let began = Instant::now();
            let body = json!({"email": email, "password": PASSWORD});
            let reply = client.post(&url).json(&body).timeout(Duration::from_secs(10)).send().await;
            let answer = match reply {
                Ok(reply) => reply.status().as_u16().to_string(),
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

    pub fn end(&self) {
        self.is_over.set(true);
    }

    /// How many acknowledged users cannot sign in.
    pub async fn lost(&self, service: &Service) -> usize {
        let mut lost = 0;
        self.acknowledged.set(self.created.borrow().len());
        for email in self.created.take() {
            lost += usize::from(service.try_sign_in(&email, PASSWORD).await.status != 200);
        }
        lost
    }

    /// Asserts that every reply was 201 or 503, and that the database was unavailable for some.
    fn assert_201_or_503(&self) {
        let answers = self.answers.borrow();
        let only_these = answers.keys().all(|answer| ["201", "503"].contains(&answer.as_str()));
        assert!(only_these && answers["503"] > 0, "{answers:?}");
    }

    pub fn report(&self, drill: &str, lost: usize, recovered: Duration) {
        println!(
            "drill: {drill}: {:?}, slowest {:.1} s, {lost} of {} acknowledged lost, recovered after {:.1} s",
            self.answers.borrow(),
            self.slowest.get().as_secs_f64(),
            self.acknowledged.get(),
            recovered.as_secs_f64()
        );
        assert_eq!(lost, 0, "{drill}");
    }
}

#[tokio::test]
async fn no_acknowledged_user_is_lost_when_the_service_is_killed() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let service = start(&folder, &database.url(), &[]);
        let load = Load::default();
        let killing = async {
            sleep(Duration::from_millis(700)).await;
            service.send_signal("KILL");
            sleep(Duration::from_millis(100)).await;
            load.end();
        };
        join(join_all((0..8).map(|_| load.creates(&service))), killing).await;
        drop(service);
        let began = Instant::now();
        let again = start(&folder, &database.url(), &[]);
        eventually(200, async || again.readiness().await).await;
        let recovered = began.elapsed();
        assert!(load.created.borrow().len() > 10, "the load was too small");
        let lost = load.lost(&again).await;
        load.report(&format!("kill -9 of the service, round {round}"), lost, recovered);
    }
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Stop,
    Kill,
    Freeze,
}

/// Two replicas under load while the database is stopped, killed or frozen: each reply is right or 503 and in time, and
/// both replicas recover without a restart.
#[tokio::test]
async fn a_stopped_killed_or_frozen_database_loses_no_acknowledged_user() {
    let Some(mut postgres) = OwnPostgres::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let replicas = [start(&folder, &postgres.url(), &[]), start(&folder, &postgres.url(), &[])];
    for fault in [Fault::Stop, Fault::Kill, Fault::Freeze] {
        let load = Load::default();
        let recovered = Cell::new(Duration::ZERO);
        let drill = async {
            sleep(Duration::from_millis(500)).await;
            match fault {
                Fault::Stop => postgres.signal("INT", false),
                Fault::Kill => postgres.signal("KILL", true),
                Fault::Freeze => postgres.signal("STOP", true),
            }
            for replica in &replicas {
                let elapsed = within(8, eventually(503, async || replica.readiness().await)).await;
                assert!(elapsed < Duration::from_secs(8));
                assert_eq!(replica.anon().get("/livez").await.status, 200);
            }
            sleep(Duration::from_secs(2)).await;
            match fault {
                Fault::Freeze => postgres.signal("CONT", true),
                _ => postgres.serve().await,
            }
            let began = Instant::now();
            for replica in &replicas {
                eventually(200, async || replica.readiness().await).await;
                eventually(201, async || replica.create(&email()).await.status).await;
            }
            recovered.set(began.elapsed());
            sleep(Duration::from_millis(300)).await;
            load.end();
        };
        let [one, other] = &replicas;
        let loads = join(join_all((0..4).map(|_| load.creates(one))), join_all((0..4).map(|_| load.creates(other))));
        join(loads, drill).await;
        let lost = load.lost(one).await;
        load.report(&format!("PostgreSQL, {fault:?}"), lost, recovered.get());
        assert!(load.slowest.get() < Duration::from_secs(6) && recovered.get() < Duration::from_secs(10), "{fault:?}");
        load.assert_201_or_503();
    }
}

/// Requests wait for a locked table until every connection is in use.
#[tokio::test]
async fn a_locked_table_is_503_until_it_is_unlocked() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let service = start(&folder, &database.url(), &[("DATABASE__MAX_CONNECTIONS", "2")]);
    let load = Load::default();
    let recovered = Cell::new(Duration::ZERO);
    let drill = async {
        sleep(Duration::from_millis(300)).await;
        let lock = if database.is_sqlite() { "SELECT 1" } else { "LOCK TABLE users IN ACCESS EXCLUSIVE MODE" };
        let lock = database.begin(lock).await;
        sleep(Duration::from_secs(3)).await;
        assert_eq!(service.anon().get("/livez").await.status, 200);
        // A SQLite writer does not block readers.
        let readiness = if database.is_sqlite() { 200 } else { 503 };
        assert_eq!(within(4, service.anon().get("/readyz")).await.status, readiness);
        lock.commit().await;
        recovered.set(eventually(201, async || service.create(&email()).await.status).await);
        load.end();
    };
    join(join_all((0..8).map(|_| load.creates(&service))), drill).await;
    let lost = load.lost(&service).await;
    load.report("a locked table", lost, recovered.get());
    load.assert_201_or_503();
    assert!(load.slowest.get() < Duration::from_secs(6));
}

struct Disk(TempDir);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// A disk of 16 MiB, which only root can mount.
#[tokio::test]
async fn a_full_disk_is_503_and_loses_no_acknowledged_user() {
    if !TestDatabase::create().await.is_sqlite() {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let mut mount = Command::new("mount");
    let mount = mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(disk.path()).stderr(Stdio::null());
    if !mount.status().is_ok_and(|status| status.success()) {
        println!("skipped: a full disk, which only root can mount");
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
        // Fills the disk; the last part does not fit.
        let _ = fs::write(&ballast, vec![1; 16 * 1024 * 1024]);
        within(10, async {
            while !load.answers.borrow().contains_key("503") {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(service.anon().get("/livez").await.status, 200);
        fs::remove_file(&ballast).unwrap();
        recovered.set(eventually(201, async || service.create(&email()).await.status).await);
        load.end();
    };
    join(join_all((0..4).map(|_| load.creates(&service))), drill).await;
    let lost = load.lost(&service).await;
    load.report("a full disk", lost, recovered.get());
    load.assert_201_or_503();
    drop(service);
}

#[tokio::test]
async fn two_thousand_idle_and_slow_connections_delay_no_request() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let service = start(&folder, &database.url(), &[]);
    let mut idle = Vec::new();
    for number in 0..2000 {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        // A third sends nothing, a third begins a head, a third begins a body.
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
        assert_eq!(service.create(&email()).await.status, 201);
        slowest = slowest.max(began.elapsed());
    }
    println!("drill: 2,000 idle and slow connections: 20 creates, all 201, slowest {:.2} s", slowest.as_secs_f64());
    assert!(slowest < Duration::from_secs(6));
}

#[tokio::test]
async fn with_96_file_descriptors_requests_succeed_once_idle_connections_time_out() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let service = start(&folder, &database.url(), &[("SERVER__REQUEST_TIMEOUT", "2s")]);
    let limit = format!("--nofile=96:96 --pid {}", service.child.0.id());
    assert!(Command::new("prlimit").args(limit.split(' ')).status().unwrap().success());
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(service.address).await.unwrap());
    }
    let began = Instant::now();
    let client = http_client().build().unwrap();
    let url = format!("http://{}/livez", service.address);
    within(20, async { while !client.get(&url).send().await.is_ok_and(|reply| reply.status() == 200) {} }).await;
    println!("drill: 96 file descriptors, 200 idle connections: served after {:.1} s", began.elapsed().as_secs_f64());
    // The idle connections got a reply before they were closed.
    let mut text = String::new();
    let _ = within(10, idle[0].read_to_string(&mut text)).await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert_eq!(service.create(&email()).await.status, 201);
}

/// A name server that receives queries and never replies. Only root can set it up.
#[tokio::test]
async fn a_silent_name_server_delays_neither_requests_nor_shutdown() {
    let silent = std::net::UdpSocket::bind("127.0.0.5:53");
    let can_mount = || Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if silent.is_err() || !can_mount() {
        println!("skipped: a silent name server, which only root can set up");
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
    let mut service = KillOnDrop(service.spawn().unwrap());
    assert!(within(10, service.accepts_connections(&address)).await);
    let anon = Endpoint::new(address.parse().unwrap(), TokenNames::Default).anon();
    // The service listens at once; then its start waits for the database for three seconds.
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
    let status = within(10, tokio::task::spawn_blocking(move || service.end_with("TERM"))).await.unwrap();
    assert_eq!(status, Some(0));
    println!("name server: ended {:.1} s after SIGTERM", began.elapsed().as_secs_f32());
}
