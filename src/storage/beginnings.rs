//! Sessions that are begun together.

use super::{Storage, StorageError, sessions::Beginning};
use crate::domain::User;
use futures_util::future::join_all;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// How many share a transaction at most. More at once are many cores' work, for more than one connection.
const TOGETHER: usize = 32;

/// What became of a sign-in: `None` when the password is another by now.
pub(super) type Begun = Result<Option<User>, StorageError>;

/// Somebody whose session is to be begun.
pub(super) struct Waiting {
    beginning: Beginning,
    answer: oneshot::Sender<Begun>,
}

impl Storage {
    /// Begins a session, along with those that came while others were being begun: a transaction waits for the disk
    /// once, whatever is in it.
    pub(super) async fn begin_with_others(&self, beginning: Beginning) -> Begun {
        let (answer, begun) = oneshot::channel();
        let _ = self.beginnings.send(Waiting { beginning, answer });
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
            // Who gave up is not waited for: it may have, because the database does not answer.
            all.retain(|one| !one.answer.is_closed());
            // Replicas that lock the same users do so in the same order.
            all.sort_by_key(|one| one.beginning.user);
            let mut rounds = Vec::new();
            while !all.is_empty() {
                let some = all.drain(..all.len().min(TOGETHER)).collect();
                let storage = self.clone();
                // A task of its own: a panic ends this and nothing else.
                rounds.push(tokio::spawn(async move { storage.begin_some(some).await }));
            }
            join_all(rounds).await;
        }
    }

    async fn begin_some(&self, some: Vec<Waiting>) {
        let (beginnings, answers): (Vec<_>, Vec<_>) =
            some.into_iter().map(|Waiting { beginning, answer }| (beginning, answer)).unzip();
        match self.begin_all(&beginnings).await {
            Ok(users) => {
                for (answer, user) in answers.into_iter().zip(users) {
                    let _ = answer.send(Ok(user));
                }
            }
            // Our fault with one of them: the others are begun.
            Err(StorageError::Fault(_)) if beginnings.len() > 1 => {
                for (answer, beginning) in answers.into_iter().zip(beginnings) {
                    let begun = self.begin_all(&[beginning]).await;
                    let _ = answer.send(begun.map(|mut users| users.pop().flatten()));
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}
