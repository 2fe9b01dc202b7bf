//! A TCP proxy that can close, reset, stall or delay its connections, or connect new ones to another server.

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
    /// Close open and new connections.
    Refuse,
    /// Reset open and new connections, as a firewall does.
    Reset,
    /// Keep connections open and forward nothing.
    Stall,
    /// Forward each piece after [`DELAY`].
    Delay,
}

const DELAY: Duration = Duration::from_millis(150);

/// Runs on its own thread, so that it outlives each async runtime of the test.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    target: Arc<Target>,
}

/// The server to which new connections go, and the number of connections made so far.
struct Target {
    upstream: Mutex<String>,
    connections: AtomicUsize,
}

impl Proxy {
    pub async fn start(upstream: String) -> Self {
        let (mode, watched) = watch::channel(Mode::Pass);
        let (bound, address) = tokio::sync::oneshot::channel();
        let target = Arc::new(Target { upstream: Mutex::new(upstream), connections: AtomicUsize::new(0) });
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

    /// Directs new connections to another server, as a changed DNS record does; open connections keep their server.
    pub fn point_at(&self, upstream: String) {
        *self.target.upstream.lock().unwrap() = upstream;
    }

    /// The number of connections made to any server so far.
    pub fn connections(&self) -> usize {
        self.target.connections.load(Ordering::Relaxed)
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

    pub fn pass(&self) {
        self.mode.send(Mode::Pass).unwrap();
    }
}

async fn serve(listener: TcpListener, target: Arc<Target>, mut mode: watch::Receiver<Mode>) {
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            // An error means that the test has dropped the proxy.
            gone = mode.changed() => if gone.is_err() { return } else { continue },
        };
        tokio::spawn(forward(client, Arc::clone(&target), mode.clone()));
    }
}

async fn forward(mut client: TcpStream, target: Arc<Target>, mut mode: watch::Receiver<Mode>) {
    let mut server = None;
    loop {
        // Waits while the proxy stalls; an error means that the test has dropped the proxy.
        let Ok(now) = mode.wait_for(|mode| *mode != Mode::Stall).await.map(|mode| *mode) else { return };
        if now == Mode::Refuse {
            return;
        }
        if now == Mode::Reset {
            // Closing without lingering sends a reset.
            let _ = client.set_zero_linger();
            return;
        }
        if server.is_none() {
            let upstream = target.upstream.lock().unwrap().clone();
            // The server may be down; then the client's connection is closed.
            let Ok(connected) = TcpStream::connect(&upstream).await else { return };
            target.connections.fetch_add(1, Ordering::Relaxed);
            server = Some(connected);
        }
        let Some(server) = &mut server else { return };
        tokio::select! {
            () = relay(&mut client, server, now) => return,
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}

async fn relay(client: &mut TcpStream, server: &mut TcpStream, mode: Mode) {
    if mode == Mode::Pass {
        let _ = copy_bidirectional(client, server).await;
        return;
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        () = copy_slowly(&mut from_client, &mut to_server) => {}
        () = copy_slowly(&mut from_server, &mut to_client) => {}
    }
}

async fn copy_slowly(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        sleep(DELAY).await;
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
