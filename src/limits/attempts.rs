//! Of the attempts for one account, this replica hashes one at a time: an attacker who sends a hundred at once gets the
//! delay of the account after the first few, as if they had come one after the other.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Mutex as Turn, OwnedMutexGuard},
    time::timeout,
};

/// The attempts that are running or waiting, by account. It holds nothing else, so open requests bound it.
#[derive(Debug)]
pub struct AttemptQueue<K> {
    turns: Arc<Mutex<HashMap<K, Arc<Turn<()>>>>>,
}

impl<K> Default for AttemptQueue<K> {
    fn default() -> Self {
        Self { turns: Arc::default() }
    }
}

/// The turn of one attempt. Dropping it starts the next one.
#[derive(Debug)]
pub struct Attempt<K: Hash + Eq> {
    turns: Arc<Mutex<HashMap<K, Arc<Turn<()>>>>>,
    key: K,
    /// `None` while it waits.
    guard: Option<OwnedMutexGuard<()>>,
}

impl<K: Hash + Eq + Copy> AttemptQueue<K> {
    /// Waits until no other attempt for `key` runs; `None` after `patience`.
    pub async fn wait(&self, key: K, patience: Duration) -> Option<Attempt<K>> {
        let turn = Arc::clone(lock(&self.turns).entry(key).or_default());
        // Made before the wait: when this future is dropped, so is the attempt, and the entry goes.
        let mut attempt = Attempt { turns: Arc::clone(&self.turns), key, guard: None };
        attempt.guard = Some(timeout(patience, turn.lock_owned()).await.ok()?);
        Some(attempt)
    }
}

impl<K: Hash + Eq> Drop for Attempt<K> {
    fn drop(&mut self) {
        let mut turns = lock(&self.turns);
        self.guard = None;
        // The table alone has it: no attempt runs or waits.
        if turns.get(&self.key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attempts_for_one_account_run_one_at_a_time_and_leave_nothing() {
        let queue = AttemptQueue::default();
        let first = queue.wait(1, Duration::ZERO).await;
        assert!(
            first.is_some() && queue.wait(2, Duration::ZERO).await.is_some(),
            "accounts do not wait for each other"
        );
        assert!(queue.wait(1, Duration::from_millis(1)).await.is_none());
        drop(first);
        assert!(queue.wait(1, Duration::ZERO).await.is_some());
        assert!(lock(&queue.turns).is_empty());
    }
}
