//! A TCP proxy that can break every connection through it, or let it stall.

use std::net::SocketAddr;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Pass,
    /// Close what is open, and whatever comes.
    Refuse,
    /// Keep everything open and carry nothing.
    Stall,
}

/// Runs on a thread of its own, so that it lives as long as the test and not as long as one of its runtimes.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    pub async fn start(upstream: String) -> Self {
        let (mode, watched) = watch::channel(Mode::Pass);
        let (bound, address) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, upstream, watched).await;
            });
        });
        Self { address: address.await.unwrap(), mode }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn refuse(&self) {
        self.mode.send(Mode::Refuse).unwrap();
    }

    pub fn stall(&self) {
        self.mode.send(Mode::Stall).unwrap();
    }

    pub fn accept(&self) {
        self.mode.send(Mode::Pass).unwrap();
    }
}

async fn serve(listener: TcpListener, upstream: String, mut mode: watch::Receiver<Mode>) {
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            // The test is over when nobody holds the other end any more.
            gone = mode.changed() => if gone.is_err() { return } else { continue },
        };
        tokio::spawn(carry(client, upstream.clone(), mode.clone()));
    }
}

async fn carry(mut client: TcpStream, upstream: String, mut mode: watch::Receiver<Mode>) {
    // Waits while everything stalls; a test that ends takes the sender with it.
    let Ok(now) = mode.wait_for(|mode| *mode != Mode::Stall).await.map(|mode| *mode) else { return };
    if now == Mode::Refuse {
        return;
    }
    let mut server = TcpStream::connect(upstream).await.unwrap();
    loop {
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => return,
            _ = mode.wait_for(|mode| *mode != Mode::Pass) => {}
        }
        let Ok(next) = mode.wait_for(|mode| *mode != Mode::Stall).await.map(|mode| *mode) else { return };
        if next == Mode::Refuse {
            return;
        }
    }
}
