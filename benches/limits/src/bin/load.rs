//! Sends requests at a fixed rate or as fast as possible, and reports the replies. Reads its [`Plan`] from standard input.
//!
//! Each connection has a thread with a blocking socket, which makes only three system calls between two requests: the
//! generator shares the cores with the service, so its own work lowers the result.
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

#[derive(Deserialize)]
struct Plan {
    address: SocketAddr,
    /// The bytes of each request; sent in rotation.
    requests: Vec<String>,
    connections: usize,
    /// Requests a second; without it the next request follows the last reply.
    rate: Option<f64>,
    /// How long requests are sent. Their replies are awaited.
    seconds: f64,
    /// The maximum number of requests.
    count: Option<usize>,
}

#[derive(Serialize, Default)]
struct Report {
    statuses: BTreeMap<u16, usize>,
    failed: BTreeMap<String, usize>,
    seconds: f64,
    /// Milliseconds since the request was due.
    p50: f64,
    p99: f64,
    slowest: f64,
}

/// The time-out for a reply, longer than any time-out of the service.
const PATIENCE: Duration = Duration::from_secs(30);

/// The status or the error, and how long the request took.
type Answer = (Result<u16, String>, Duration);

fn main() {
    let plan: Plan = serde_json::from_reader(io::stdin()).expect("a plan");
    let (next, ready) = (AtomicUsize::new(0), Barrier::new(plan.connections + 1));
    let (began, answers) = thread::scope(|scope| {
        let one = || {
            let stream = connect(&plan);
            ready.wait();
            (Instant::now(), talk(&plan, stream, &next))
        };
        let spawn = |_| thread::Builder::new().stack_size(128 * 1024).spawn_scoped(scope, one).expect("a thread");
        let threads: Vec<_> = (0..plan.connections).map(spawn).collect();
        ready.wait();
        let parts: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        // With many threads on few cores, the first get their replies before the last start.
        let began = parts.iter().map(|(began, _)| *began).min().expect("a connection");
        (began, parts.into_iter().flat_map(|(_, answers)| answers).collect::<Vec<Answer>>())
    });
    let mut report = Report { seconds: began.elapsed().as_secs_f64(), ..Report::default() };
    let mut waits = Vec::new();
    for (status, wait) in answers {
        match status {
            Ok(status) => *report.statuses.entry(status).or_default() += 1,
            Err(error) => *report.failed.entry(error).or_default() += 1,
        }
        waits.push(wait.as_secs_f64() * 1000.0);
    }
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).or(waits.last()).copied().unwrap_or(0.0);
    (report.p50, report.p99, report.slowest) = (at(0.5), at(0.99), at(1.0));
    println!("{}", serde_json::to_string(&report).expect("JSON"));
}

fn connect(plan: &Plan) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(plan.address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The requests of one connection.
fn talk(plan: &Plan, stream: io::Result<TcpStream>, next: &AtomicUsize) -> Vec<Answer> {
    let (began, mut stream, mut answers, mut reply) = (Instant::now(), stream, Vec::new(), vec![0; 16 * 1024]);
    let length = Duration::from_secs_f64(plan.seconds);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let due = plan.rate.map_or(began.elapsed(), |rate| Duration::from_secs_f64(number as f64 / rate));
        if due >= length || plan.count.is_some_and(|count| number >= count) {
            return answers;
        }
        thread::sleep(due.saturating_sub(began.elapsed()));
        let answer = stream.as_mut().map_err(|error| error.to_string()).and_then(|stream| {
            let request = &plan.requests[number % plan.requests.len()];
            exchange(stream, request, &mut reply).map_err(|error| error.to_string())
        });
        if !matches!(answer, Ok((_, true))) {
            stream = connect(plan);
        }
        answers.push((answer.map(|(status, _)| status), began.elapsed() - due));
    }
}

/// The status of the reply, and whether the connection stays open.
fn exchange(stream: &mut TcpStream, request: &str, reply: &mut [u8]) -> io::Result<(u16, bool)> {
    stream.write_all(request.as_bytes())?;
    let mut filled = 0;
    loop {
        let read = stream.read(&mut reply[filled..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        let Some(end) = reply[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&reply[..end]).to_ascii_lowercase();
        let header = |name| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length: usize = header("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
        if filled >= end + 4 + length {
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            return Ok((status, header("connection:") != Some("close")));
        }
    }
}
