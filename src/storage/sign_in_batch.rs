//! Sign-ins that share a transaction, in SQLite: a commit waits for the disk once, however much it writes, and SQLite has one
//! writer. The sign-ins that arrive while one transaction commits go into the next one.

use super::{
    Storage, StorageError,
    sessions::{VerifiedSignIn, insert_session},
};
use crate::domain::User;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// The outcome of one sign-in: `None` when the password was changed meanwhile.
type Outcome = Result<Option<User>, StorageError>;

/// A sign-in that waits for its transaction.
pub(super) struct PendingSignIn {
    sign_in: VerifiedSignIn,
    answer: oneshot::Sender<Outcome>,
}

impl PendingSignIn {
    /// Whether the request has ended or timed out: its client may have got an error, so no session must begin.
    fn is_cancelled(&self) -> bool {
        self.answer.is_closed()
    }
}

/// Commits the sign-ins of the queue until the runtime stops.
pub(super) async fn run(storage: Storage, mut queue: mpsc::UnboundedReceiver<PendingSignIn>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, usize::MAX).await > 0 {
        let (storage, batch) = (storage.clone(), std::mem::take(&mut batch));
        // In a task, so that a panic ends one batch and not this loop.
        let _ = tokio::spawn(async move { storage.commit_batch(batch).await }).await;
    }
}

impl Storage {
    /// Puts a sign-in into the queue and waits for its outcome.
    pub(super) async fn enqueue(
        &self,
        queue: &mpsc::UnboundedSender<PendingSignIn>,
        sign_in: VerifiedSignIn,
    ) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let _ = queue.send(PendingSignIn { sign_in, answer });
        match timeout(self.deadline, outcome).await {
            Ok(outcome) => {
                outcome.unwrap_or_else(|_| Err(StorageError::Fault("the batch of sign-ins was interrupted".to_owned())))
            }
            Err(_) => Err(self.timed_out()),
        }
    }

    async fn commit_batch(&self, batch: Vec<PendingSignIn>) {
        match self.insert_sessions(&batch).await {
            Ok(users) => {
                for (pending, user) in batch.into_iter().zip(users) {
                    let _ = pending.answer.send(Ok(user));
                }
            }
            // One sign-in caused the fault: commit each in its own transaction, so that the others succeed.
            Err(StorageError::Fault(_)) if batch.len() > 1 => {
                for pending in batch.into_iter().filter(|pending| !pending.is_cancelled()) {
                    let outcome = self.commit_sign_in(&pending.sign_in).await;
                    let _ = pending.answer.send(outcome);
                }
            }
            Err(error) => {
                for pending in batch {
                    let _ = pending.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Begins the sessions in one transaction, without those whose request was cancelled.
    async fn insert_sessions(&self, batch: &[PendingSignIn]) -> Result<Vec<Option<User>>, StorageError> {
        self.write(|| async {
            let mut tx = self.begin().await?;
            let mut users = Vec::with_capacity(batch.len());
            for pending in batch {
                let is_cancelled = pending.is_cancelled();
                users.push(if is_cancelled { None } else { insert_session(&mut tx, &pending.sign_in).await? });
            }
            tx.commit().await?;
            Ok(users)
        })
        .await
    }
}
