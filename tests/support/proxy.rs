//! A TCP proxy that can break every connection through it.

use std::net::SocketAddr;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Runs on a thread of its own, so that it lives as long as the test and not as long as one of its runtimes.
pub struct Proxy {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Proxy {
    pub async fn start(upstream: String) -> Self {
        let (is_open, gate) = watch::channel(true);
        let (bound, address) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, upstream, gate).await;
            });
        });
        Self { address: address.await.unwrap(), is_open }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes what is open, and whatever comes.
    pub fn refuse(&self) {
        self.is_open.send(false).unwrap();
    }

    pub fn accept(&self) {
        self.is_open.send(true).unwrap();
    }
}

async fn serve(listener: TcpListener, upstream: String, mut gate: watch::Receiver<bool>) {
    loop {
        let mut client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            // The test is over when nobody holds the gate any more.
            gone = gate.changed() => if gone.is_err() { return } else { continue },
        };
        if !*gate.borrow() {
            continue;
        }
        let mut gate = gate.clone();
        let upstream = upstream.clone();
        tokio::spawn(async move {
            let mut server = TcpStream::connect(upstream).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                _ = gate.wait_for(|is_open| !is_open) => {}
            }
        });
    }
}
