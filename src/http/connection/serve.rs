//! Runs the server: accepts connections and puts the middlewares around the routes.

use super::{final_response::final_response, guarded_stream::GuardedStream};
use crate::http::{
    State,
    middleware::{access_log, cors, problem_json, request_id, without_cors_at_verify},
};
use actix_http::{HttpService, KeepAlive, Protocol};
use actix_service::{ServiceFactoryExt, fn_service, map_config};
use actix_web::{
    App,
    dev::{AppConfig, Server},
    middleware::{Condition, from_fn},
    web::{Data, ServiceConfig},
};
use std::{convert::Infallible, io, net::TcpListener, sync::Arc, time::Duration};
use tokio::net::TcpStream;

/// The options of a server.
#[derive(Clone)]
pub struct Options {
    pub workers: usize,
    pub routes: fn(&State, &mut ServiceConfig),
    /// How long an idle connection is kept open.
    pub keep_alive: Duration,
    /// How long a client may take to send a request.
    pub request_timeout: Duration,
    /// How long requests may take to finish once the server stops.
    pub shutdown_timeout: Duration,
}

/// A server on `listener` that serves once it is polled.
///
/// This is what actix-web's `HttpServer` does, plus the `GuardedStream` around each connection.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(listener: TcpListener, state: Arc<State>, options: &Options) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let state = Data::from(state);
    let Options { request_timeout, keep_alive, routes, .. } = *options;
    let builder = Server::build()
        .workers(options.workers)
        .shutdown_timeout(whole_seconds(options.shutdown_timeout))
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let server = builder.listen("http", listener, move || {
        let state = state.clone();
        let stopping = stopping.clone();
        // The last one is the outermost, so the access log includes the preflights that CORS refuses.
        let app = App::new()
            .app_data(state.clone())
            .wrap(cors(&state))
            .wrap(Condition::new(!state.cors_allowed_origins.is_empty(), from_fn(without_cors_at_verify)))
            .wrap(from_fn(problem_json))
            .wrap(from_fn(access_log))
            .wrap(from_fn(request_id))
            .wrap(from_fn(final_response))
            .configure(|config| routes(&state, config));
        let http = HttpService::build()
            .keep_alive(KeepAlive::Timeout(keep_alive))
            .client_request_timeout(request_timeout)
            .client_disconnect_timeout(Duration::from_secs(1))
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .local_addr(address)
            .on_connect_ext(|stream: &GuardedStream, data| {
                data.insert(stream.client_connection());
                data.insert(stream.state());
            })
            .finish(map_config(app, |()| AppConfig::default()));
        fn_service(move |tcp: TcpStream| {
            let peer = tcp.peer_addr().ok();
            // Disables Nagle's algorithm: a response is one small write, which must not wait.
            let _ = tcp.set_nodelay(true);
            let stream = GuardedStream::new(tcp, request_timeout);
            async move { Ok::<_, Infallible>((stream, Protocol::Http1, peer)) }
        })
        .map_err(|never| match never {})
        .and_then(http)
    })?;
    Ok(server.run())
}

/// Rounds up, so that half a second does not become zero.
fn whole_seconds(length: Duration) -> u64 {
    length.as_secs() + u64::from(length.subsec_nanos() > 0)
}
