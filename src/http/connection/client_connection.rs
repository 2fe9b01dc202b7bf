//! Cancels expensive work when the client disconnects.

use crate::{auth::AuthError, http::problem::Problem};
use actix_web::{FromRequest, HttpRequest, dev::Payload};
use std::{
    future::{Ready, pending, ready},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// How long a client that has closed its side of the connection may still be reading: RFC 9112 §9.6 allows that, and
/// the service cannot tell it from a client that has disconnected.
const HALF_CLOSE_GRACE: Duration = Duration::from_millis(200);

/// The client disconnected before the work for it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnected;

/// The reply to a client that has only closed its sending side.
impl From<Disconnected> for Problem {
    fn from(_: Disconnected) -> Self {
        AuthError::Overloaded.into()
    }
}

/// Reports when the client closes its side of the connection.
#[derive(Clone)]
pub struct ClientConnection(Option<watch::Receiver<bool>>);

impl ClientConnection {
    pub(super) fn new(is_closed: watch::Receiver<bool>) -> Self {
        Self(Some(is_closed))
    }

    /// Completes when the client has closed its side of the connection.
    pub async fn closed(self) {
        let Self(is_closed) = self;
        if let Some(mut is_closed) = is_closed
            && is_closed.wait_for(|is_closed| *is_closed).await.is_ok()
        {
            return;
        }
        pending::<()>().await;
    }

    /// Runs `work`, and drops it when the client disconnects: no password is hashed for a client that has disconnected.
    ///
    /// # Errors
    /// [`Disconnected`] when `work` was dropped.
    pub async fn cancel_on_disconnect<T>(self, work: impl Future<Output = T>) -> Result<T, Disconnected> {
        let disconnected = async {
            self.closed().await;
            sleep(HALF_CLOSE_GRACE).await;
        };
        tokio::select! {
            biased;
            result = work => Ok(result),
            () = disconnected => Err(Disconnected),
        }
    }
}

impl FromRequest for ClientConnection {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(request.conn_data::<Self>().cloned().unwrap_or(Self(None))))
    }
}
