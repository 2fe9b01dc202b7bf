//! More sign-ins than the service can hash: which are hashed, which are refused, and how much memory they use.

use crate::support::{PASSWORD, TestApp, TestDatabase, eventually, eventually_within, process::Service, within};
use futures_util::{
    future::join_all,
    stream::{self, StreamExt},
};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

const EMAIL: &str = "ann@example.com";

const THREADS: usize = 2;

/// KiB of one hash at the default cost.
const MEMORY: usize = 19_456;

/// KiB that everything but the hashes uses at most, in a build without optimisation.
const REST: usize = 120 * 1024;

/// A service in its own process, so that its CPU time and memory can be measured, with password hashes of the production
/// cost and one user.
struct Flooded {
    service: Service,
    database: TestDatabase,
    _folder: TempDir,
}

impl Flooded {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let flooded = Self::on(TestDatabase::create().await, settings);
        let created = flooded.service.create(EMAIL).await;
        assert_eq!(created.status, 201, "{created:?}");
        flooded
    }

    fn on(database: TestDatabase, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let defaults =
            [("PASSWORDS__HASH_THREADS", "2"), ("USERS__MAX_SESSIONS", "1000000"), ("TELEMETRY__LOG", "info")];
        let service = Service::with_database(folder.path(), &database.url(), &[&defaults, settings].concat());
        Self { service, database, _folder: folder }
    }

    /// The status of one sign-in, on its own connection.
    async fn sign_in(&self) -> u16 {
        self.try_with(EMAIL, PASSWORD).await
    }

    async fn try_with(&self, email: &str, password: &str) -> u16 {
        let reply = self.service.try_sign_in(email, password).await;
        if reply.status == 503 {
            assert_eq!(reply.code(), "overloaded", "{reply:?}");
        }
        reply.status
    }

    /// Sends `count` sign-ins at once and counts the replies by status.
    async fn at_once(&self, count: usize) -> BTreeMap<u16, usize> {
        let mut statuses = BTreeMap::new();
        for status in join_all((0..count).map(|_| self.sign_in())).await {
            *statuses.entry(status).or_default() += 1;
        }
        statuses
    }
}

#[tokio::test]
async fn two_thousand_concurrent_sign_ins_are_hashed_or_refused_in_bounded_memory() {
    // While other tests run, two seconds may be too short for the sign-ins in the queue.
    let flooded = Flooded::start(&[("PASSWORDS__QUEUE_TIMEOUT", "1m")]).await;
    let idle = flooded.service.memory_kib("VmRSS");
    let began = Instant::now();
    let statuses = within(60, flooded.at_once(2000)).await;
    let (seconds, most) = (began.elapsed().as_secs_f64(), flooded.service.memory_kib("VmHWM"));
    println!("2000 sign-ins at once: {statuses:?} in {seconds:.2} s; {} MiB, {} MiB before", most / 1024, idle / 1024);
    // Every queued sign-in was hashed.
    assert!(statuses[&200] >= THREADS * 32, "{statuses:?}");
    assert_eq!(statuses.values().sum::<usize>(), statuses[&200] + statuses.get(&503).unwrap_or(&0), "no other status");
    assert!(most <= THREADS * MEMORY + REST, "{most} KiB");
    assert_eq!(flooded.sign_in().await, 200, "the service still hashes");
}

/// Stored hashes need 64 MiB, because another system or other settings made them. A hash thread frees its usual memory
/// before it allocates the 64 MiB, and frees these afterwards.
#[tokio::test]
async fn a_hash_of_another_size_holds_its_memory_only_while_it_is_computed() {
    const LARGE: usize = 65_536;
    /// KiB for a few connections.
    const FEW: usize = 16 * 1024;
    let database = Flooded::start(&[("PASSWORDS__MEMORY_KIB", &LARGE.to_string())]).await.database;
    let flooded = Flooded::on(database, &[]);
    let before = flooded.service.memory_kib("VmRSS");
    for _ in 0..3 {
        let usual = join_all((0..4).map(|_| flooded.try_with("nobody@example.com", "wrong"))).await;
        let large = join_all((0..4).map(|_| flooded.try_with(EMAIL, "wrong"))).await;
        assert_eq!([usual, large].concat(), [401; 8]);
    }
    let most = flooded.service.memory_kib("VmHWM") - before;
    assert!((LARGE..THREADS * LARGE + FEW).contains(&most), "{most} KiB");
    // The memory is freed after the replies are sent.
    let after = || flooded.service.memory_kib("VmRSS").saturating_sub(before);
    eventually(true, async || after() < THREADS * MEMORY + FEW).await;
    println!("hashes of {LARGE} KiB: {most} KiB more at most, {} KiB afterwards", after());
    assert_eq!(flooded.sign_in().await, 200, "a sign-in with the large hash succeeds");
}

#[tokio::test]
async fn idle_hash_threads_free_their_memory() {
    let flooded = Flooded::start(&[]).await;
    assert_eq!(flooded.at_once(2 * THREADS).await, BTreeMap::from([(200, 2 * THREADS)]));
    let used = flooded.service.memory_kib("VmRSS");
    // At least one thread has hashed, and frees its memory ten seconds later.
    let freed = || used.saturating_sub(flooded.service.memory_kib("VmRSS"));
    eventually_within(60, true, async || freed() >= MEMORY * 3 / 4).await;
    println!("{} MiB after the last hash, {} MiB of them freed", used / 1024, freed() / 1024);
    assert_eq!(flooded.sign_in().await, 200, "the next hash allocates memory again");
}

/// Every sign-in is answered at once or within the time-out.
#[tokio::test]
async fn a_full_queue_refuses_sign_ins_and_other_requests_succeed() {
    let flooded = Flooded::start(&[("PASSWORDS__QUEUE", "4"), ("PASSWORDS__QUEUE_TIMEOUT", "1s")]).await;
    let ann = flooded.service.sign_in(EMAIL).await;
    let end = Instant::now() + Duration::from_secs(5);
    let sign_ins = stream::iter(0..40).map(async |_| {
        let mut statuses = Vec::new();
        while Instant::now() < end {
            statuses.push(within(5, flooded.sign_in()).await);
        }
        statuses
    });
    let sign_ins = sign_ins.buffer_unordered(40).collect::<Vec<_>>();
    let others = async {
        let mut served = 0;
        while Instant::now() < end {
            assert_eq!(within(5, ann.actor.get("/auth/users/me")).await.status, 200);
            served += 1;
        }
        served
    };
    let (statuses, served) = tokio::join!(sign_ins, others);
    let count = |wanted| statuses.iter().flatten().filter(|status| **status == wanted).count();
    println!("a full queue: {} hashed, {} refused, {served} other requests", count(200), count(503));
    assert_eq!(count(200) + count(503), statuses.iter().flatten().count());
    assert!(count(200) > 0 && count(503) > 0 && served > 10);
}

/// The next client does not wait for the hashes of clients that have disconnected.
#[tokio::test]
async fn a_password_of_a_disconnected_client_is_not_hashed() {
    const CLIENTS: u32 = 300;
    let flooded = Flooded::start(&[("PASSWORDS__QUEUE", "1000"), ("PASSWORDS__QUEUE_TIMEOUT", "1m")]).await;
    let before = flooded.service.cpu_time();
    for _ in 0..10 {
        assert_eq!(flooded.sign_in().await, 200);
    }
    let one = flooded.service.cpu_time().saturating_sub(before) / 10;
    let authorization = format!("authorization: Bearer {}", flooded.service.sign_in(EMAIL).await.access);
    let change = json!({"current_password": "wrong", "new_password": "another horse battery"});
    let credentials = json!({"email": EMAIL, "password": PASSWORD});
    let other = json!({"email": "bob@example.com", "password": PASSWORD});
    for (path, header, body, resets) in [
        ("/auth/signin", "accept: */*", &credentials, false),
        ("/auth/signin", "accept: */*", &credentials, true),
        ("/auth/password", authorization.as_str(), &change, false),
        ("/auth/create", "accept: */*", &other, false),
    ] {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\n{header}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let before = flooded.service.cpu_time();
        let send_and_disconnect = async || {
            let mut stream = TcpStream::connect(flooded.service.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            if resets {
                stream.set_zero_linger().unwrap();
            }
        };
        join_all((0..CLIENTS).map(|_| send_and_disconnect())).await;
        assert_eq!(within(30, flooded.sign_in()).await, 200);
        let all = flooded.service.cpu_time().saturating_sub(before);
        println!(
            "{path}, resets {resets}: {CLIENTS} disconnected sign-ins used {all:?} of a core, one hashed sign-in {one:?}"
        );
        assert!(all < one * CLIENTS / 2, "{path}, resets {resets}");
    }
    // Disconnected clients do not count as overload, so that the operator gets no alert.
    let counted = async |outcome: &str| {
        let metrics = flooded.service.anon().get("/metrics").await.text;
        let start = format!("signet_signin_total{{outcome=\"{outcome}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse::<u32>().unwrap()
    };
    assert!(counted("gone").await > CLIENTS / 2);
    assert_eq!(counted("overloaded").await, 0);
    assert!(flooded.service.memory_kib("VmHWM") <= THREADS * MEMORY + REST);
}

#[tokio::test]
async fn sign_ins_beyond_the_queue_are_503_at_once() {
    let app =
        TestApp::with(&[("PASSWORDS__MEMORY_KIB", "65536"), ("PASSWORDS__ITERATIONS", "4"), ("PASSWORDS__QUEUE", "1")])
            .await;
    let replies = join_all((0..12).map(|_| app.try_sign_in("nobody@example.com", PASSWORD))).await;
    let refused = replies.iter().filter(|reply| (reply.status, reply.code()) == (503, "overloaded")).count();
    let answered = replies.iter().filter(|reply| reply.status == 401).count();
    assert!(refused >= 1 && answered >= 2 && refused + answered == 12, "{refused} refused, {answered} answered");
}
