//! The final response of a connection, and the state that the requests of a connection share with its [`GuardedStream`].
//!
//! A response is final when the client asks to close, when the request has a body that no handler has read, or when the
//! service stops. Bytes after such a request may be the rest of its body, or a request that a proxy in front has not
//! seen.
//!
//! [`GuardedStream`]: super::guarded_stream::GuardedStream

use crate::http::State;
use actix_http::ConnectionType;
use actix_web::{
    Error, HttpMessage, HttpRequest, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header,
    middleware::Next,
    web::Data,
};
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::time::sleep;

/// How often a request that follows the final response checks whether that response is written.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The state of a connection, shared by its requests and its stream.
#[derive(Clone, Default)]
pub(super) struct ConnectionState(Rc<Shared>);

#[derive(Default)]
struct Shared {
    stage: Cell<Stage>,
    is_serving: Cell<bool>,
    /// The rest of the body of the current request, in bytes; `None` without a `Content-Length`.
    body_left: Cell<Option<u64>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The final response will be written next.
    Closing,
    /// The final response is written, and nothing more is.
    Closed,
}

impl ConnectionState {
    /// Records that everything was written. Returns whether the final response was part of it.
    pub(super) fn flushed(&self) -> bool {
        let is_final = self.0.stage.get() == Stage::Closing;
        if is_final {
            self.0.stage.set(Stage::Closed);
        }
        is_final
    }

    /// Whether the final response is ready, written or not.
    pub(super) fn is_closing(&self) -> bool {
        self.0.stage.get() != Stage::Open
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.stage.get() == Stage::Closed
    }

    /// Whether a request is being served that has been read completely.
    pub(super) fn is_serving(&self) -> bool {
        self.0.is_serving.get() || self.body_left() == Some(0)
    }

    pub(super) fn body_left(&self) -> Option<u64> {
        self.0.body_left.get()
    }

    /// Records that `count` bytes were handed to actix-http.
    pub(super) fn handed_on(&self, count: usize) {
        let left = self.body_left().map(|left| left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX)));
        self.0.body_left.set(left);
    }

    fn begin(&self, request: &HttpRequest) {
        self.0.is_serving.set(!has_body(request));
        let is_counted = has_body(request) && !request.headers().contains_key(header::TRANSFER_ENCODING);
        let length = request.headers().get(header::CONTENT_LENGTH).filter(|_| is_counted);
        self.0.body_left.set(length.and_then(|length| length.to_str().ok()?.parse().ok()));
    }

    fn end(&self) {
        self.0.is_serving.set(false);
        self.0.body_left.set(None);
    }
}

/// Marks a request whose body was read to its end.
struct BodyRead;

/// Records that a request's body was read to its end.
pub fn body_is_read(request: &HttpRequest) {
    request.extensions_mut().insert(BodyRead);
    if let Some(connection) = request.conn_data::<ConnectionState>() {
        connection.0.is_serving.set(true);
    }
}

fn has_body(request: &HttpRequest) -> bool {
    let length = request.headers().get(header::CONTENT_LENGTH);
    length.is_some_and(|length| length != "0") || request.headers().contains_key(header::TRANSFER_ENCODING)
}

/// Ends a connection after its final response, and drops requests that arrive after it.
pub async fn final_response(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if arrived_after_close(request.request()).await {
        return Ok(request.into_response(HttpResponse::BadRequest().force_close().finish()));
    }
    if let Some(connection) = request.request().conn_data::<ConnectionState>() {
        connection.begin(request.request());
    }
    // The service speaks no other protocol, and after an `Upgrade` actix-http does not know where the next request begins.
    let asks_for_close = request.head().connection_type() != ConnectionType::KeepAlive
        || request.headers().contains_key(header::UPGRADE);
    let state = request.app_data::<Data<State>>().cloned();
    let mut response = next.call(request).await?.map_into_boxed_body();
    if let Some(connection) = response.request().conn_data::<ConnectionState>() {
        connection.end();
    }
    let is_stopping = state.is_some_and(|state| state.is_stopping());
    if asks_for_close || is_stopping || has_unread_body(response.request()) {
        // Every body of this service is one piece, so the first flush after this writes the whole response.
        if let Some(connection) = response.request().conn_data::<ConnectionState>() {
            connection.0.stage.set(Stage::Closing);
        }
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

/// Whether this request arrived after the final response of its connection. If so, waits until the final response is
/// written, because the response to this request must not be written.
async fn arrived_after_close(request: &HttpRequest) -> bool {
    let Some(connection) = request.conn_data::<ConnectionState>().filter(|connection| connection.is_closing()) else {
        return false;
    };
    while !connection.is_closed() {
        sleep(POLL_INTERVAL).await;
    }
    true
}

fn has_unread_body(request: &HttpRequest) -> bool {
    has_body(request) && !request.extensions().contains::<BodyRead>()
}
