//! The end: answer what was accepted, close the port, stop the servers, close the database.

use crate::{
    http::{self, ServerHandle, State},
    storage::Storage,
};
use futures_util::future::{OptionFuture, join};
use std::{net::TcpListener, time::Duration};
use tokio::time::{sleep, timeout};

/// How long the service accepts connections after it was asked to stop. Each gets a response with `connection: close`.
const ACCEPT_GRACE: Duration = Duration::from_millis(500);

/// How long the thread that accepts connections has to hear that it is to accept no more.
const PAUSE_GRACE: Duration = Duration::from_millis(50);

/// How long a client has to send its first request on a connection that was accepted last.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(100);

/// How long the process waits for the database to close its connections: a disk or a server that does not answer must not
/// keep it from ending.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers what was accepted, then stops both servers within `server.shutdown_timeout`.
pub(super) async fn drain(
    state: &State,
    listener: &TcpListener,
    server: &ServerHandle,
    metrics_server: Option<&ServerHandle>,
) {
    // A client or a proxy that has not heard of the end yet is served, and told to connect to another replica.
    state.stop();
    sleep(ACCEPT_GRACE).await;
    // A server that stops drops a connection that it has accepted and not begun to serve. So the server first accepts no
    // more, then the port is closed, and what was accepted by then is served.
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
