//! What the requests of a connection and its [`Stream`](super::stream::Stream) tell each other.
//!
//! The last answer of a connection goes to a client that wants no other, or one that leaves a body unread, or is the last
//! because the service stops. What follows it may be a part of the body, or a request that a proxy before us knows nothing
//! of. actix-http announces such a close, and yet goes on with what it has read by then.
//!
//! While a request is served and its body is read, the stream reads next to nothing further: actix-http would parse all of
//! it into requests that wait, some hundred times as large as their bytes.

use actix_http::ConnectionType;
use actix_web::{HttpMessage, HttpRequest, body::MessageBody, dev::ServiceResponse, http::header};
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::time::sleep;

/// How often whoever came behind looks whether the last answer is sent.
const A_MOMENT: Duration = Duration::from_millis(10);

/// Whether a connection has had its last answer, and whether it waits for one.
#[derive(Clone, Default)]
pub(super) struct LastAnswer(Rc<Shared>);

#[derive(Default)]
struct Shared {
    state: Cell<State>,
    is_serving: Cell<bool>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    NotYet,
    /// It will be written next.
    Given,
    /// Nothing is written any more. What comes is read for a moment still, and dropped: to close before that would take
    /// the answer from whoever is still sending.
    Sent,
}

impl LastAnswer {
    /// What was written by now is all that will be, if the last answer was given.
    pub(super) fn flushed(&self) {
        if self.0.state.get() == State::Given {
            self.0.state.set(State::Sent);
        }
    }

    /// Whether the last answer is there, sent or not.
    pub(super) fn is_given(&self) -> bool {
        self.0.state.get() != State::NotYet
    }

    /// Whether a request is served of which nothing is left to read.
    pub(super) fn is_serving(&self) -> bool {
        self.0.is_serving.get()
    }

    pub(super) fn is_sent(&self) -> bool {
        self.0.state.get() == State::Sent
    }
}

/// Left in a request by whoever has read its body to the end.
struct BodyRead;

/// Notes that a body was read to its end.
pub(super) fn body_is_read(request: &HttpRequest) {
    request.extensions_mut().insert(BodyRead);
    set_serving(request, true);
}

/// Notes that a request is about to be served.
pub(super) fn begins(request: &HttpRequest) {
    set_serving(request, !has_body(request));
}

fn set_serving(request: &HttpRequest, is_serving: bool) {
    if let Some(connection) = request.conn_data::<LastAnswer>() {
        connection.0.is_serving.set(is_serving);
    }
}

fn has_body(request: &HttpRequest) -> bool {
    let length = request.headers().get(header::CONTENT_LENGTH);
    length.is_some_and(|length| length != "0") || request.headers().contains_key(header::TRANSFER_ENCODING)
}

/// Whether this request came behind the last answer of its connection. It waits until that is sent, for whatever it is
/// answered must not be.
pub(super) async fn comes_too_late(request: &HttpRequest) -> bool {
    let Some(last) = request.conn_data::<LastAnswer>().filter(|last| last.is_given()) else {
        return false;
    };
    while !last.is_sent() {
        sleep(A_MOMENT).await;
    }
    true
}

/// Notes that a request was served. Makes its answer the last when one of the two sides wants it so, or its request has a
/// body that nobody has read.
///
/// Every body of ours is one piece, so the first flush after this has all of the answer.
pub(super) fn close_after_last(response: &mut ServiceResponse<impl MessageBody>, is_wanted: bool) {
    let request = response.request();
    set_serving(request, false);
    let is_unread = has_body(request) && !request.extensions().contains::<BodyRead>();
    if is_wanted || is_unread {
        if let Some(last) = request.conn_data::<LastAnswer>() {
            last.0.state.set(State::Given);
        }
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
}
