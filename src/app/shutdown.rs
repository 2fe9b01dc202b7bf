//! Shutdown: answer accepted connections, close the port, stop the servers, close the database.

use crate::{
    http::{self, ServerHandle, State},
    storage::Storage,
};
use futures_util::future::{OptionFuture, join};
use std::{net::TcpListener, time::Duration};
use tokio::time::{sleep, timeout};

/// How long the service accepts connections after SIGTERM. Their responses have `connection: close`.
const ACCEPT_GRACE: Duration = Duration::from_millis(500);

/// How long the thread that accepts connections may take to stop.
const PAUSE_GRACE: Duration = Duration::from_millis(50);

/// How long a client has to send its first request on a connection that was accepted just before the pause.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(100);

/// How long the process waits for the connections to the database to close. A disk or a server that does not answer
/// must not keep the process from exiting.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers accepted connections, then stops both servers within `server.shutdown_timeout`.
pub(super) async fn drain(
    state: &State,
    listener: &TcpListener,
    server: &ServerHandle,
    metrics_server: Option<&ServerHandle>,
) {
    // Clients and proxies that still connect are served, and `connection: close` tells them to connect to another replica.
    state.stop();
    sleep(ACCEPT_GRACE).await;
    // A server that stops drops connections that it has accepted but not begun to serve. So it first pauses; then the
    // port is closed, and the connections accepted by then are served.
    server.pause().await;
    sleep(PAUSE_GRACE).await;
    http::close(listener);
    sleep(FIRST_REQUEST_GRACE).await;
    join(server.stop(true), OptionFuture::from(metrics_server.map(|server| server.stop(true)))).await;
}

/// Closes the connections to the database.
pub(super) async fn close(storage: &Storage) {
    let _ = timeout(CLOSE_TIMEOUT, storage.close()).await;
}
