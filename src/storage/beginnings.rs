//! Sessions that are begun together.

use super::{Storage, StorageError, sessions::Beginning};
use crate::domain::User;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// What became of a sign-in: `None` when the password is another by now.
pub(super) type Begun = Result<Option<User>, StorageError>;

/// Somebody whose session is to be begun.
pub(super) struct Waiting {
    pub beginning: Beginning,
    answer: oneshot::Sender<Begun>,
}

impl Waiting {
    /// Whether it gave up, and may have been told that nothing was begun.
    pub(super) fn is_gone(&self) -> bool {
        self.answer.is_closed()
    }
}

impl Storage {
    /// Begins a session along with `others` that came while some were being begun: a transaction waits for the disk
    /// once, whatever is in it, and SQLite has one writer anyway.
    pub(super) async fn begin_with(&self, others: &mpsc::UnboundedSender<Waiting>, beginning: Beginning) -> Begun {
        let (answer, begun) = oneshot::channel();
        let _ = others.send(Waiting { beginning, answer });
        match timeout(self.deadline, begun).await {
            Ok(begun) => begun.unwrap_or_else(|_| Err(StorageError::Fault("beginning sessions broke off".to_owned()))),
            Err(_) => Err(self.no_answer()),
        }
    }

    /// Begins the sessions of those who wait, as long as the runtime lives. (That of a worker ends before the last
    /// sign-in on another does, in an orderly stop.)
    pub(super) async fn begin_together(self, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
        let mut all = Vec::new();
        while waiting.recv_many(&mut all, usize::MAX).await > 0 {
            let (storage, all) = (self.clone(), std::mem::take(&mut all));
            // A task of its own: a panic ends this and nothing else.
            let _ = tokio::spawn(async move { storage.begin_some(all).await }).await;
        }
    }

    async fn begin_some(&self, some: Vec<Waiting>) {
        match self.begin_all(&some).await {
            Ok(users) => {
                for (waiting, user) in some.into_iter().zip(users) {
                    let _ = waiting.answer.send(Ok(user));
                }
            }
            // Our fault with one of them: the others are begun.
            Err(StorageError::Fault(_)) if some.len() > 1 => {
                for waiting in some.into_iter().filter(|waiting| !waiting.is_gone()) {
                    let begun = self.begin_one(&waiting.beginning).await;
                    let _ = waiting.answer.send(begun);
                }
            }
            Err(error) => {
                for waiting in some {
                    let _ = waiting.answer.send(Err(error.clone()));
                }
            }
        }
    }
}
