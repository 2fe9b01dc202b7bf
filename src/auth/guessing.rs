//! Limits on guessing: by client address, and by account.
//!
//! An attempt for an account is checked in this order, all before its password is hashed:
//! 1. The client address: from this process's memory, without a query.
//! 2. Its turn: this replica hashes one attempt at a time for each account and class of addresses.
//! 3. The delay of the account: the failures in a row are in the database, common to all replicas.
//!
//! Addresses that have signed in to the account before are a class of their own. So a stranger who guesses delays other
//! strangers, and not the owner.

use super::{Auth, AuthError};
use crate::{
    domain::{LoginName, Seconds, Timestamp},
    limits::{AddressLimit, Attempt, network},
    storage::{AttemptKey, Failures},
};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The label of the limit by account, in metrics.
pub const ACCOUNT_LIMIT: &str = "account";

/// How many accounts have failures that wait for a database that can be written.
const MAX_UNWRITTEN: usize = 10_000;

/// Failures that could not be written, until the database can be written again.
#[derive(Default)]
pub(super) struct UnwrittenFailures(Mutex<HashMap<AttemptKey, Failures>>);

impl UnwrittenFailures {
    fn get(&self, key: &AttemptKey) -> Option<Failures> {
        self.lock().get(key).copied()
    }

    fn set(&self, key: AttemptKey, failures: Failures) {
        let mut unwritten = self.lock();
        if unwritten.len() < MAX_UNWRITTEN || unwritten.contains_key(&key) {
            unwritten.insert(key, failures);
        }
    }

    fn remove(&self, key: &AttemptKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptKey, Failures>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt that may be hashed. While it lives, no other attempt of its class is hashed by this replica.
pub(super) struct AllowedAttempt {
    key: AttemptKey,
    failures: u32,
    _turn: Attempt<AttemptKey>,
}

impl Auth {
    /// Counts a request of a client address.
    ///
    /// # Errors
    /// [`AuthError::RateLimited`].
    pub fn check_address(&self, limit: AddressLimit, address: Option<IpAddr>) -> Result<(), AuthError> {
        let (Some(limits), Some(address)) = (&self.limits, address) else { return Ok(()) };
        let checked = limits.addresses.check(limit, address);
        checked.map_err(|wait| AuthError::RateLimited { limit: limit.name(), retry_after: whole_seconds(wait) })
    }

    /// Waits for the turn of an attempt to sign in to the account that `login` names, and checks the delay of the account.
    /// `None` if there are no limits.
    ///
    /// # Errors
    /// [`AuthError::RateLimited`], [`AuthError::Overloaded`], or the database is unavailable.
    pub(super) async fn begin_attempt(
        &self,
        login: &LoginName,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Option<AllowedAttempt>, AuthError> {
        let Some(limits) = &self.limits else { return Ok(None) };
        // In a flood a refused sign-in costs no query.
        if !self.passwords.has_room() {
            return Err(AuthError::Overloaded);
        }
        let network = address.map(network).unwrap_or_default();
        let is_known = self.storage.knows_network(login, &network).await?;
        let key = AttemptKey { account: self.tokens.account_mac(login.text()), is_known };
        let refused = |retry_after| AuthError::RateLimited { limit: ACCOUNT_LIMIT, retry_after };
        let turn = limits.attempts.wait(key, limits.queue_timeout).await.ok_or_else(|| refused(Seconds(1)))?;
        // Read after the wait: the attempts before this one count.
        let mut failures = self.storage.sign_in_failures(&key, now).await?;
        if let Some(unwritten) = limits.unwritten.get(&key) {
            failures.count = failures.count.saturating_add(unwritten.count);
            failures.last_at = unwritten.last_at;
        }
        match limits.delay.wait(failures, now) {
            Some(wait) => Err(refused(wait)),
            None => Ok(Some(AllowedAttempt { key, failures: failures.count, _turn: turn })),
        }
    }

    /// Counts a wrong password. A failure that cannot be written counts in memory until it can be.
    pub(super) async fn note_failure(&self, attempt: Option<AllowedAttempt>, now: Timestamp) {
        let (Some(limits), Some(attempt)) = (&self.limits, attempt) else { return };
        let count = limits.unwritten.get(&attempt.key).map_or(1, |unwritten| unwritten.count.saturating_add(1));
        match self.storage.add_sign_in_failures(&attempt.key, count, now).await {
            Ok(()) => limits.unwritten.remove(&attempt.key),
            Err(_) => limits.unwritten.set(attempt.key, Failures { count, last_at: now }),
        }
        let failures = attempt.failures.saturating_add(1);
        // Once for each account and class: later failures only make the delay longer.
        if failures == limits.delay.free_failures {
            let [a, b, c, d, ..] = attempt.key.account;
            tracing::warn!(
                account = format!("{a:02x}{b:02x}{c:02x}{d:02x}"),
                is_known_address = attempt.key.is_known,
                failures,
                "too many failed sign-ins in a row: the next attempts for this account are delayed"
            );
        }
    }

    /// Forgets the failures of an account from this class of addresses, after a right password. If the database cannot be
    /// written, which storage logs, they stay: the password was right all the same.
    pub(super) async fn note_success(&self, attempt: Option<AllowedAttempt>) {
        let (Some(limits), Some(attempt)) = (&self.limits, attempt) else { return };
        limits.unwritten.remove(&attempt.key);
        if attempt.failures > 0 {
            let _ = self.storage.clear_sign_in_failures(&attempt.key.account, Some(attempt.key.is_known)).await;
        }
    }
}

/// Rounds up, and to at least a second: a client that waits so long succeeds.
fn whole_seconds(wait: Duration) -> Seconds {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Seconds(i64::try_from(seconds.max(1)).unwrap_or(i64::MAX))
}
