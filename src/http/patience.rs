//! Whether whoever asked is still there, for what takes long enough to matter.

use super::error::Problem;
use crate::auth::AuthError;
use actix_web::{FromRequest, HttpRequest, dev::Payload};
use std::{
    future::{Ready, pending, ready},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// How long somebody who has closed their side of the connection may still be reading (RFC 9112 §9.6 allows it, and it
/// looks no different from having gone).
const GRACE: Duration = Duration::from_millis(200);

/// Whoever asked has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// In case they are reading after all.
impl From<Gone> for Problem {
    fn from(_: Gone) -> Self {
        AuthError::Overloaded.into()
    }
}

/// Is told when the client has closed its side of the connection.
#[derive(Clone)]
pub struct Patience(Option<watch::Receiver<bool>>);

impl Patience {
    pub(super) fn of_connection(is_closed: watch::Receiver<bool>) -> Self {
        Self(Some(is_closed))
    }

    /// What `work` comes to. It is given up when the caller has gone: nobody is hashed for who does not wait for it.
    ///
    /// # Errors
    /// [`Gone`] when `work` was given up.
    pub async fn with<T>(self, work: impl Future<Output = T>) -> Result<T, Gone> {
        let Self(is_closed) = self;
        let gone = async {
            if let Some(mut is_closed) = is_closed
                && is_closed.wait_for(|is_closed| *is_closed).await.is_ok()
            {
                return sleep(GRACE).await;
            }
            pending::<()>().await;
        };
        tokio::select! {
            biased;
            result = work => Ok(result),
            () = gone => Err(Gone),
        }
    }
}

impl FromRequest for Patience {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(request.conn_data::<Self>().cloned().unwrap_or(Self(None))))
    }
}
