//! A TCP proxy that can break every connection through it, let it stall, or carry the next ones to another server.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Pass,
    /// Close what is open, and whatever comes.
    Refuse,
    /// Reset what is open, and whatever comes, as a firewall does.
    Reset,
    /// Keep everything open and carry nothing.
    Stall,
    /// Carry everything, each piece after a while.
    Delay,
}

/// How long a piece takes while the proxy delays.
const DELAY: Duration = Duration::from_millis(150);

/// Runs on a thread of its own, so that it lives as long as the test and not as long as one of its runtimes.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    target: Arc<Target>,
}

/// Where new connections are carried, and how many were.
struct Target {
    upstream: Mutex<String>,
    carried: AtomicUsize,
}

impl Proxy {
    pub async fn start(upstream: String) -> Self {
        let (mode, watched) = watch::channel(Mode::Pass);
        let (bound, address) = tokio::sync::oneshot::channel();
        let target = Arc::new(Target { upstream: Mutex::new(upstream), carried: AtomicUsize::new(0) });
        let served = Arc::clone(&target);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, served, watched).await;
            });
        });
        Self { address: address.await.unwrap(), mode, target }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Carries new connections to another server, as a name that was moved does: open ones stay where they are.
    pub fn point_at(&self, upstream: String) {
        *self.target.upstream.lock().unwrap() = upstream;
    }

    /// How many connections have reached a server so far.
    pub fn carried(&self) -> usize {
        self.target.carried.load(Ordering::Relaxed)
    }

    pub fn refuse(&self) {
        self.mode.send(Mode::Refuse).unwrap();
    }

    pub fn reset(&self) {
        self.mode.send(Mode::Reset).unwrap();
    }

    pub fn delay(&self) {
        self.mode.send(Mode::Delay).unwrap();
    }

    pub fn stall(&self) {
        self.mode.send(Mode::Stall).unwrap();
    }

    pub fn accept(&self) {
        self.mode.send(Mode::Pass).unwrap();
    }
}

async fn serve(listener: TcpListener, target: Arc<Target>, mut mode: watch::Receiver<Mode>) {
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            // The test is over when nobody holds the other end any more.
            gone = mode.changed() => if gone.is_err() { return } else { continue },
        };
        tokio::spawn(carry(client, Arc::clone(&target), mode.clone()));
    }
}

async fn carry(mut client: TcpStream, target: Arc<Target>, mut mode: watch::Receiver<Mode>) {
    let mut server = None;
    loop {
        // Waits while everything stalls; a test that ends takes the sender with it.
        let Ok(now) = mode.wait_for(|mode| *mode != Mode::Stall).await.map(|mode| *mode) else { return };
        if now == Mode::Refuse {
            return;
        }
        if now == Mode::Reset {
            // Closed without lingering: the other side is told that the connection is no more.
            let _ = client.set_zero_linger();
            return;
        }
        if server.is_none() {
            let upstream = target.upstream.lock().unwrap().clone();
            // The server may be down; then the client's connection is closed.
            let Ok(connected) = TcpStream::connect(&upstream).await else { return };
            target.carried.fetch_add(1, Ordering::Relaxed);
            server = Some(connected);
        }
        let Some(server) = &mut server else { return };
        tokio::select! {
            () = both_ways(&mut client, server, now) => return,
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}

async fn both_ways(client: &mut TcpStream, server: &mut TcpStream, mode: Mode) {
    if mode == Mode::Pass {
        let _ = copy_bidirectional(client, server).await;
        return;
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        () = slowly(&mut from_client, &mut to_server) => {}
        () = slowly(&mut from_server, &mut to_client) => {}
    }
}

async fn slowly(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        sleep(DELAY).await;
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
