//! Connections whose client does not read: how long the service keeps them, and what they cost it.
//!
//! `scripts/drill-connections` shows the same for more kinds of connections, beside an honest client.

use crate::support::{TestDatabase, process::Service, within};
use std::{fs, net::SocketAddr, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// How often the tests look at the service.
const TICK: Duration = Duration::from_millis(50);

/// A service in a process of its own, so that its CPU time and its memory can be told from those of the test.
struct Watched {
    service: Service,
    _database: TestDatabase,
    _folder: TempDir,
}

/// The service's side of one connection, as `/proc/net/tcp` shows it: bytes that the client has not taken, and bytes that
/// the service has not read.
#[derive(Clone, PartialEq)]
struct Queues(String);

impl Watched {
    async fn start(changes: &[(&str, &str)]) -> Self {
        let database = TestDatabase::create().await;
        let folder = tempfile::tempdir().unwrap();
        let url = database.url();
        let environment = [
            ("SIGNET__DATABASE__URL", url.as_str()),
            ("SIGNET__DATABASE__MIGRATE_ON_START", "true"),
            ("SIGNET__RATE_LIMIT__ENABLED", "false"),
            ("SIGNET__TELEMETRY__LOG", "warn"),
        ];
        let service = Service::start(folder.path(), &[&environment, changes].concat());
        Self { service, _database: database, _folder: folder }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.service.address).await.unwrap()
    }

    /// For how long the service has been computing.
    fn computed(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.service.child.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// The resident memory of the service, in KiB.
    fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.service.child.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// `None` when the service has closed its connection with this client.
    fn queues(&self, client: SocketAddr) -> Option<Queues> {
        let port = |port: u16| format!(":{port:04X}");
        let (here, there) = (port(self.service.address.port()), port(client.port()));
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let row = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|fields| {
            // Established, or closed by the client alone; a socket that the process has closed has no inode.
            let is_open = ["01", "08"].contains(&fields[3]) || fields[9] != "0";
            is_open && fields[1].ends_with(&here) && fields[2].ends_with(&there)
        });
        row.map(|fields| Queues(fields[4].to_owned()))
    }
}

/// Sends as much of this as the connection takes.
async fn push(client: &mut TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // A service that reads no further, or has closed the connection already, is as it should be.
        let Ok(Ok(sent)) = timeout(Duration::from_millis(500), client.write(bytes)).await else { return };
        bytes = &bytes[sent..];
    }
}

#[tokio::test]
async fn a_client_that_pipelines_and_never_reads_is_disconnected_and_takes_no_core() {
    // Twice the time to receive a request, and 5 s: as docs/operations.md has it. One more to measure.
    const BOUND: Duration = Duration::from_secs(2 + 5 + 1);
    let watched = Watched::start(&[("SIGNET__SERVER__REQUEST_TIMEOUT", "1s")]).await;
    let mut client = watched.connect().await;
    let address = client.local_addr().unwrap();
    let request = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    push(&mut client, &request.repeat(1_000_000 / request.len())).await;

    let mut queues = watched.queues(address);
    // When the last byte went either way, and what the service had computed a second later.
    let (mut last_byte, mut settled) = (Instant::now(), None);
    let closing = async {
        while queues.is_some() {
            sleep(TICK).await;
            let now = watched.queues(address);
            if now.is_some() && now != queues {
                (last_byte, settled) = (Instant::now(), None);
            }
            if settled.is_none() && last_byte.elapsed() >= Duration::from_secs(1) {
                settled = Some((Instant::now(), watched.computed()));
            }
            queues = now;
        }
    };
    let other = watched.service.anon();
    let asking = async {
        loop {
            assert_eq!(within(5, other.get("/livez")).await.status, 200, "another client is answered meanwhile");
            sleep(Duration::from_millis(200)).await;
        }
    };
    within(30, async {
        tokio::select! { () = closing => {}, () = asking => {} }
    })
    .await;

    let open = last_byte.elapsed();
    assert!(open <= BOUND, "closed {open:?} after the last byte");
    println!("closed {open:?} after the last byte");
    if let Some((since, before)) = settled {
        let (computed, elapsed) = (watched.computed().saturating_sub(before), since.elapsed());
        println!("{computed:?} of a core in the last {elapsed:?}");
        // The system counts in hundredths of a second: of less than a second they say nothing.
        assert!(computed * 10 < elapsed.max(Duration::from_secs(1)), "{computed:?} of a core in {elapsed:?}");
    }
}

#[tokio::test]
async fn clients_that_pipeline_and_do_not_read_take_less_than_a_mebibyte_each() {
    const CLIENTS: usize = 20;
    let watched = Watched::start(&[]).await;
    // What is made for the first answer is not of the clients that follow.
    assert_eq!(watched.service.anon().get("/openapi.json").await.status, 200);
    let before = watched.memory();
    let requests = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2000);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = watched.connect().await;
        push(&mut client, &requests).await;
        clients.push(client);
    }
    // The service has done what it does for them when nothing has gone either way for a second.
    let queues = || clients.iter().map(|client| watched.queues(client.local_addr().unwrap())).collect::<Vec<_>>();
    let (mut most, mut last, mut last_change) = (watched.memory(), queues(), Instant::now());
    within(20, async {
        while last_change.elapsed() < Duration::from_secs(1) {
            sleep(TICK).await;
            most = most.max(watched.memory());
            let now = queues();
            if now != last {
                (last, last_change) = (now, Instant::now());
            }
        }
    })
    .await;
    assert!(last.iter().all(Option::is_some), "none was closed so early");
    let grown = most.saturating_sub(before);
    println!("{CLIENTS} clients that do not read: the service grew by {} KiB each", grown / CLIENTS);
    assert!(grown < CLIENTS * 1024, "{grown} KiB for {CLIENTS} clients");
}

/// A client that sends many requests at once, and reads what it gets, gets every answer, in the order of its requests.
#[tokio::test]
async fn a_client_that_pipelines_and_reads_gets_every_answer_in_order() {
    let watched = Watched::start(&[]).await;
    let (mut from, mut to) = watched.connect().await.into_split();
    let request = |number: u32| {
        let path = if number.is_multiple_of(3) { "/livez" } else { "/nowhere" };
        format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-request-id: number-{number}\r\n\r\n")
    };
    let requests = (0..3000).map(request).collect::<Vec<_>>().concat();
    let sending = tokio::spawn(async move {
        to.write_all(requests.as_bytes()).await.unwrap();
        to
    });
    let mut text = String::new();
    within(30, async {
        let mut bytes = vec![0; 64 * 1024];
        while text.matches("x-request-id: ").count() < 3000 {
            let read = from.read(&mut bytes).await.unwrap();
            assert_ne!(read, 0, "closed after {} answers", text.matches("x-request-id: ").count());
            text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    })
    .await;
    let ids: Vec<&str> = text.split("x-request-id: ").skip(1).map(|rest| rest.lines().next().unwrap()).collect();
    let expected: Vec<String> = (0..3000).map(|number| format!("number-{number}")).collect();
    assert_eq!(ids, expected);
    drop(sending.await.unwrap());
}

/// actix-http skips line ends in front of a request, each time from the first of them.
#[tokio::test]
async fn line_ends_in_front_of_a_request_cost_next_to_nothing() {
    let watched = Watched::start(&[]).await;
    let before = watched.computed();
    for _ in 0..5 {
        let mut client = watched.connect().await;
        push(&mut client, &vec![b'\n'; 100_000]).await;
        push(&mut client, b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let mut reply = String::new();
        let _ = within(20, client.read_to_string(&mut reply)).await;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 "), "{reply}");
    }
    let computed = watched.computed().saturating_sub(before);
    assert!(computed < Duration::from_millis(500), "{computed:?}");
}
