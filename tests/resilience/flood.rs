//! More sign-ins than can be: what is hashed, what is refused, and how much memory that takes.

use crate::support::{PASSWORD, TestApp, TestDatabase, actor::http_client, eventually, process::Service, within};
use futures_util::{
    future::join_all,
    stream::{self, StreamExt},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, time::Duration};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

const EMAIL: &str = "ann@example.com";

const THREADS: usize = 2;

/// KiB that a hash takes, by default.
const MEMORY: usize = 19_456;

/// KiB that everything else takes at most, in a build without optimisation.
const REST: usize = 120 * 1024;

/// A service in a process of its own, so that its memory and its time can be told from ours, with hashes as expensive as in
/// production; and somebody who can sign in.
struct Flooded {
    service: Service,
    database: TestDatabase,
    _folder: TempDir,
}

impl Flooded {
    async fn start(changes: &[(&str, &str)]) -> Self {
        let flooded = Self::on(TestDatabase::create().await, changes);
        let created = flooded.service.anon().post("/auth/create", &credentials()).await;
        assert_eq!(created.status, 201, "{created:?}");
        flooded
    }

    fn on(database: TestDatabase, changes: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = database.url();
        let environment = [
            ("SIGNET__DATABASE__URL", url.as_str()),
            ("SIGNET__DATABASE__MIGRATE_ON_START", "true"),
            ("SIGNET__RATE_LIMIT__ENABLED", "false"),
            ("SIGNET__PASSWORDS__HASH_THREADS", "2"),
            ("SIGNET__USERS__MAX_SESSIONS", "1000000"),
        ];
        let service = Service::start(folder.path(), &[&environment, changes].concat());
        Self { service, database, _folder: folder }
    }

    /// The status of one sign-in, on a connection of its own.
    async fn sign_in(&self) -> u16 {
        self.try_with(EMAIL, PASSWORD).await
    }

    async fn try_with(&self, email: &str, password: &str) -> u16 {
        let url = format!("http://{}/auth/signin", self.service.address);
        let credentials = json!({"email": email, "password": password});
        let reply = http_client().post(url).json(&credentials).send().await.unwrap();
        let (status, retry_after) = (reply.status().as_u16(), reply.headers().get("retry-after").cloned());
        let problem: Value = reply.json().await.unwrap();
        if status == 503 {
            assert!(problem["code"] == "overloaded" && retry_after.is_some(), "{problem}");
        }
        status
    }

    /// How often each status was answered to so many sign-ins at once.
    async fn at_once(&self, count: usize) -> BTreeMap<u16, usize> {
        let mut statuses = BTreeMap::new();
        for status in join_all((0..count).map(|_| self.sign_in())).await {
            *statuses.entry(status).or_default() += 1;
        }
        statuses
    }

    /// A line of `/proc/PID/status`, in KiB.
    fn memory(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.service.child.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// For how long the service has been computing.
    fn computed(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.service.child.0.id())).unwrap();
        let ticks =
            |field: usize| stat.rsplit(')').next().unwrap().split_whitespace().nth(field).unwrap().parse::<u64>();
        Duration::from_millis((ticks(11).unwrap() + ticks(12).unwrap()) * 10)
    }
}

fn credentials() -> Value {
    json!({"email": EMAIL, "password": PASSWORD})
}

#[tokio::test]
async fn of_two_thousand_sign_ins_at_once_some_are_hashed_and_the_rest_refused_in_bounded_memory() {
    // Beside other tests two seconds may not be enough for those that have a place.
    let flooded = Flooded::start(&[("SIGNET__PASSWORDS__QUEUE_TIMEOUT", "1m")]).await;
    let idle = flooded.memory("VmRSS");
    let began = Instant::now();
    let statuses = within(60, flooded.at_once(2000)).await;
    let (seconds, most) = (began.elapsed().as_secs_f64(), flooded.memory("VmHWM"));
    println!("2000 sign-ins at once: {statuses:?} in {seconds:.2} s; {} MiB, {} MiB before", most / 1024, idle / 1024);
    // Whatever found a place in the queue was hashed.
    assert!(statuses[&200] >= THREADS * 32, "{statuses:?}");
    assert_eq!(statuses.values().sum::<usize>(), statuses[&200] + statuses.get(&503).unwrap_or(&0), "nothing else");
    assert!(most <= THREADS * MEMORY + REST, "{most} KiB");
    assert_eq!(flooded.sign_in().await, 200, "and it goes on");
}

/// Stored hashes of 64 MiB, as another system or other settings made them: their memory is given back, and a thread that
/// needs it has no other meanwhile.
#[tokio::test]
async fn an_unusual_hash_has_its_memory_only_while_it_is_made() {
    const LARGE: usize = 65_536;
    /// KiB for a few connections and the code that serves them.
    const FEW: usize = 16 * 1024;
    let database = Flooded::start(&[("SIGNET__PASSWORDS__MEMORY_KIB", &LARGE.to_string())]).await.database;
    let flooded = Flooded::on(database, &[]);
    let before = flooded.memory("VmRSS");
    for _ in 0..3 {
        let usual = join_all((0..4).map(|_| flooded.try_with("nobody@example.com", "wrong"))).await;
        let large = join_all((0..4).map(|_| flooded.try_with(EMAIL, "wrong"))).await;
        assert_eq!([usual, large].concat(), [401; 8]);
    }
    let most = flooded.memory("VmHWM") - before;
    assert!((LARGE..THREADS * LARGE + FEW).contains(&most), "{most} KiB");
    // Given back once the answers are on their way.
    let after = || flooded.memory("VmRSS").saturating_sub(before);
    eventually(true, async || after() < THREADS * MEMORY + FEW).await;
    println!("hashes of {LARGE} KiB: {most} KiB more at most, {} KiB afterwards", after());
    assert_eq!(flooded.sign_in().await, 200, "and it is a hash like any other");
}

#[tokio::test]
async fn a_service_without_work_frees_the_memory_of_its_hash_threads() {
    let flooded = Flooded::start(&[]).await;
    assert_eq!(flooded.at_once(2 * THREADS).await, BTreeMap::from([(200, 2 * THREADS)]));
    let used = flooded.memory("VmRSS");
    // At least one thread has hashed. Ten seconds later it frees its memory.
    let freed = || used.saturating_sub(flooded.memory("VmRSS"));
    within(60, async {
        while freed() < MEMORY * 3 / 4 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    println!("{} MiB after the last hash, {} MiB of them freed", used / 1024, freed() / 1024);
    assert_eq!(flooded.sign_in().await, 200, "the next hash allocates it again");
}

/// A queue that stays full: everybody is answered at once or within the time-out, and others are served.
#[tokio::test]
async fn a_queue_that_stays_full_refuses_and_others_are_served() {
    let flooded =
        Flooded::start(&[("SIGNET__PASSWORDS__QUEUE", "4"), ("SIGNET__PASSWORDS__QUEUE_TIMEOUT", "1s")]).await;
    let ann = flooded.service.anon().post("/auth/signin", &credentials()).await;
    let me = flooded.service.bearer(ann.json["access_token"].as_str().unwrap());
    let end = Instant::now() + Duration::from_secs(5);
    let crowd = stream::iter(0..40).map(async |_| {
        let mut statuses = Vec::new();
        while Instant::now() < end {
            statuses.push(within(5, flooded.sign_in()).await);
        }
        statuses
    });
    let crowd = crowd.buffer_unordered(40).collect::<Vec<_>>();
    let others = async {
        let mut served = 0;
        while Instant::now() < end {
            assert_eq!(within(5, me.get("/auth/users/me")).await.status, 200);
            served += 1;
        }
        served
    };
    let (statuses, served) = tokio::join!(crowd, others);
    let count = |wanted| statuses.iter().flatten().filter(|status| **status == wanted).count();
    println!("a full queue: {} hashed, {} refused, {served} other requests", count(200), count(503));
    assert_eq!(count(200) + count(503), statuses.iter().flatten().count());
    assert!(count(200) > 0 && count(503) > 0 && served > 10);
}

/// What was sent and given up at once costs no hash: the next who comes need not wait for it.
#[tokio::test]
async fn who_hangs_up_at_once_is_not_hashed() {
    const CALLERS: u32 = 300;
    let flooded =
        Flooded::start(&[("SIGNET__PASSWORDS__QUEUE", "1000"), ("SIGNET__PASSWORDS__QUEUE_TIMEOUT", "1m")]).await;
    let before = flooded.computed();
    for _ in 0..10 {
        assert_eq!(flooded.sign_in().await, 200);
    }
    let one = flooded.computed().saturating_sub(before) / 10;
    let ann = flooded.service.anon().post("/auth/signin", &credentials()).await;
    let authorization = format!("authorization: Bearer {}", ann.json["access_token"].as_str().unwrap());
    let change = json!({"current_password": "wrong", "new_password": "another horse battery"});
    let other = json!({"email": "bob@example.com", "password": PASSWORD});
    for (path, header, body, resets) in [
        ("/auth/signin", "accept: */*", &credentials(), false),
        ("/auth/signin", "accept: */*", &credentials(), true),
        ("/auth/password", authorization.as_str(), &change, false),
        ("/auth/create", "accept: */*", &other, false),
    ] {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\n{header}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let before = flooded.computed();
        let hang_up = async || {
            let mut stream = TcpStream::connect(flooded.service.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            if resets {
                stream.set_zero_linger().unwrap();
            }
        };
        join_all((0..CALLERS).map(|_| hang_up())).await;
        assert_eq!(within(30, flooded.sign_in()).await, 200);
        let all = flooded.computed().saturating_sub(before);
        println!("{path}, resets {resets}: {CALLERS} that hung up took {all:?} of a core, each that did not {one:?}");
        assert!(all < one * CALLERS / 2, "{path}, resets {resets}");
    }
    // Nothing that an operator should be woken up for.
    let counted = async |outcome: &str| {
        let metrics = flooded.service.anon().get("/metrics").await.text;
        let start = format!("signet_signin_total{{outcome=\"{outcome}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse::<u32>().unwrap()
    };
    assert!(counted("gone").await > CALLERS / 2);
    assert_eq!(counted("overloaded").await, 0);
    assert!(flooded.memory("VmHWM") <= THREADS * MEMORY + REST);
}

#[tokio::test]
async fn more_sign_ins_than_can_wait_are_503_at_once() {
    let app =
        TestApp::with(&[("PASSWORDS__MEMORY_KIB", "65536"), ("PASSWORDS__ITERATIONS", "4"), ("PASSWORDS__QUEUE", "1")])
            .await;
    let body = json!({"email": "nobody@example.com", "password": PASSWORD});
    let replies = join_all((0..12).map(|_| {
        let (anon, body) = (app.anon(), body.clone());
        async move { anon.post("/auth/signin", &body).await }
    }))
    .await;
    let refused = replies.iter().filter(|reply| (reply.status, reply.code()) == (503, "overloaded")).count();
    let answered = replies.iter().filter(|reply| reply.status == 401).count();
    assert!(refused >= 1 && answered >= 2 && refused + answered == 12, "{refused} refused, {answered} answered");
}
