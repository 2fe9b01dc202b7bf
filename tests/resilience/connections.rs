//! Clients that do not read: how long the service keeps their connections, and how much CPU time and memory they use.
//!
//! `scripts/drill-connections` measures more kinds of connections, beside an honest client.

use crate::support::{TestDatabase, process::Service, within};
use std::{fs, net::SocketAddr, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// How often the tests measure.
const TICK: Duration = Duration::from_millis(50);

/// A service in its own process, so that its CPU time and memory can be measured.
struct Watched {
    service: Service,
    _database: TestDatabase,
    _folder: TempDir,
}

/// The queues of the service's side of one connection, as `/proc/net/tcp` shows them: bytes that the client has not
/// acknowledged, and bytes that the service has not read.
#[derive(Clone, PartialEq)]
struct Queues(String);

impl Watched {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let (database, folder) = (TestDatabase::create().await, tempfile::tempdir().unwrap());
        let service = Service::with_database(folder.path(), &database.url(), settings);
        Self { service, _database: database, _folder: folder }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.service.address).await.unwrap()
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

/// Sends as many of these bytes as the connection accepts.
async fn push(client: &mut TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // The service may stop reading or close the connection.
        let Ok(Ok(sent)) = timeout(Duration::from_millis(500), client.write(bytes)).await else { return };
        bytes = &bytes[sent..];
    }
}

#[tokio::test]
async fn a_client_that_pipelines_and_never_reads_is_disconnected_and_uses_little_cpu() {
    // Twice `server.request_timeout` plus 5 s, as docs/operations.md says, plus 1 s to measure.
    const BOUND: Duration = Duration::from_secs(2 + 5 + 1);
    let watched = Watched::start(&[("SERVER__REQUEST_TIMEOUT", "1s")]).await;
    let mut client = watched.connect().await;
    let address = client.local_addr().unwrap();
    let request = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    push(&mut client, &request.repeat(1_000_000 / request.len())).await;

    let mut queues = watched.queues(address);
    // When the last byte moved in either direction, and the CPU time a second later.
    let (mut last_byte, mut settled) = (Instant::now(), None);
    let closing = async {
        while queues.is_some() {
            sleep(TICK).await;
            let now = watched.queues(address);
            if now.is_some() && now != queues {
                (last_byte, settled) = (Instant::now(), None);
            }
            if settled.is_none() && last_byte.elapsed() >= Duration::from_secs(1) {
                settled = Some((Instant::now(), watched.service.cpu_time()));
            }
            queues = now;
        }
    };
    let other = watched.service.anon();
    let asking = async {
        loop {
            assert_eq!(within(5, other.get("/livez")).await.status, 200, "other clients are answered meanwhile");
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
        let (used, elapsed) = (watched.service.cpu_time().saturating_sub(before), since.elapsed());
        println!("{used:?} of a core in the last {elapsed:?}");
        // The kernel counts CPU time in hundredths of a second, which is too coarse for less than a second.
        assert!(used * 10 < elapsed.max(Duration::from_secs(1)), "{used:?} of a core in {elapsed:?}");
    }
}

#[tokio::test]
async fn clients_that_pipeline_and_do_not_read_take_less_than_a_mebibyte_each() {
    const CLIENTS: usize = 20;
    let watched = Watched::start(&[]).await;
    // The first reply allocates memory that later replies share.
    assert_eq!(watched.service.anon().get("/openapi.json").await.status, 200);
    let before = watched.service.memory_kib("VmRSS");
    let requests = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2000);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = watched.connect().await;
        push(&mut client, &requests).await;
        clients.push(client);
    }
    // The service has finished with these clients when no byte has moved for a second.
    let queues = || clients.iter().map(|client| watched.queues(client.local_addr().unwrap())).collect::<Vec<_>>();
    let (mut most, mut last, mut last_change) = (watched.service.memory_kib("VmRSS"), queues(), Instant::now());
    within(20, async {
        while last_change.elapsed() < Duration::from_secs(1) {
            sleep(TICK).await;
            most = most.max(watched.service.memory_kib("VmRSS"));
            let now = queues();
            if now != last {
                (last, last_change) = (now, Instant::now());
            }
        }
    })
    .await;
    assert!(last.iter().all(Option::is_some), "every connection is still open");
    let grown = most.saturating_sub(before);
    println!("{CLIENTS} clients that do not read: the service grew by {} KiB each", grown / CLIENTS);
    assert!(grown < CLIENTS * 1024, "{grown} KiB for {CLIENTS} clients");
}

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

/// actix-http skips line ends before a request and starts again at the first of them after each read.
#[tokio::test]
async fn line_ends_before_a_request_use_little_cpu() {
    let watched = Watched::start(&[]).await;
    let before = watched.service.cpu_time();
    for _ in 0..5 {
        let mut client = watched.connect().await;
        push(&mut client, &vec![b'\n'; 100_000]).await;
        push(&mut client, b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let mut reply = String::new();
        let _ = within(20, client.read_to_string(&mut reply)).await;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 "), "{reply}");
    }
    let used = watched.service.cpu_time().saturating_sub(before);
    assert!(used < Duration::from_millis(500), "{used:?}");
}
