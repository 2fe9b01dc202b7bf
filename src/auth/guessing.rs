//! Limits on guessing: by client address, and by account.
//!
//! An attempt for an account is checked in this order, all before its password is hashed:
//! 1. The client address: from this process's memory, without a query.
//! 2. Its turn: this replica hashes one attempt at a time for each account and class of addresses.
//! 3. The delay of the account: the failures in a row are in the database, common to all replicas.
//!
//! Addresses that have signed in to the account before are a class of their own. So a stranger who guesses delays other
//! strangers, and not the owner.

use super::{Auth, AuthError, Limits};
use crate::{
    domain::{Action, AuditContext, LoginName, MailKind, Seconds, Timestamp, UserId},
    limits::{AddressLimit, Attempt, network},
    storage::{AttemptKey, FAILURES_LAST, Failures},
};
use lru::LruCache;
use std::{
    net::IpAddr,
    num::NonZero,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The label of the limit by account, in metrics.
pub const ACCOUNT_LIMIT: &str = "account";

/// The label of the limit of codes.
pub const CODE_LIMIT: &str = "code";

/// For how many accounts failures can wait for a database that can be written; then the oldest are forgotten.
const MAX_UNWRITTEN: NonZero<usize> = NonZero::new(10_000).unwrap();

/// Failures that could not be written, until the database can be written again.
pub(super) struct UnwrittenFailures(Mutex<LruCache<AttemptKey, Failures>>);

impl Default for UnwrittenFailures {
    fn default() -> Self {
        // Without capacity in advance: the table is almost always empty.
        let mut unwritten = LruCache::unbounded();
        unwritten.resize(MAX_UNWRITTEN);
        Self(Mutex::new(unwritten))
    }
}

impl UnwrittenFailures {
    /// The failures for `key` that still count at `now`.
    fn get(&self, key: &AttemptKey, now: Timestamp) -> Option<Failures> {
        self.lock().peek(key).copied().filter(|failures| now - failures.last_at < FAILURES_LAST)
    }

    fn set(&self, key: AttemptKey, failures: Failures) {
        self.lock().put(key, failures);
    }

    fn remove(&self, key: &AttemptKey) {
        self.lock().pop(key);
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<AttemptKey, Failures>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a request came. Its attempt may wait and is hashed after that, so a failure is later than its request.
#[derive(Clone, Copy)]
struct Arrival {
    at: Timestamp,
    since: Instant,
}

impl Arrival {
    fn now(self) -> Timestamp {
        self.at + Seconds(i64::try_from(self.since.elapsed().as_secs()).unwrap_or(i64::MAX))
    }
}

/// An attempt that may be hashed. While it lives, no other attempt of its class is hashed by this replica.
pub(super) struct AllowedAttempt {
    key: AttemptKey,
    failures: u32,
    arrival: Arrival,
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
        context: &AuditContext,
    ) -> Result<Option<AllowedAttempt>, AuthError> {
        let Some(limits) = &self.limits else { return Ok(None) };
        // In a flood a refused sign-in costs no query.
        if !self.passwords.has_room() {
            return Err(AuthError::Overloaded);
        }
        let network = context.address.map(network).unwrap_or_default();
        let is_known = self.storage.knows_network(login, &network).await?;
        let key = AttemptKey { account: self.tokens.account_mac(login.text()), is_known };
        self.take_turn(limits, key, ACCOUNT_LIMIT, context).await.map(Some)
    }

    /// As [`Self::begin_attempt`], for a code that was sent to an address: it has a count of its own.
    pub(super) async fn begin_code(
        &self,
        kind: MailKind,
        address: &str,
        context: &AuditContext,
    ) -> Result<Option<AllowedAttempt>, AuthError> {
        let Some(limits) = &self.limits else { return Ok(None) };
        let account = self.tokens.code_mac(kind, address);
        self.take_turn(limits, AttemptKey { account, is_known: false }, CODE_LIMIT, context).await.map(Some)
    }

    async fn take_turn(
        &self,
        limits: &Limits,
        key: AttemptKey,
        limit: &'static str,
        context: &AuditContext,
    ) -> Result<AllowedAttempt, AuthError> {
        let arrival = Arrival { at: context.at, since: Instant::now() };
        let refused = |retry_after| AuthError::RateLimited { limit, retry_after };
        let turn = limits.attempts.wait(key, limits.queue_timeout).await.ok_or_else(|| refused(Seconds(1)))?;
        // Read after the wait: the attempts before this one count.
        let now = arrival.now();
        let written = self.storage.sign_in_failures(&key).await?;
        let failures = match (written, limits.unwritten.get(&key, now)) {
            (Some(written), Some(unwritten)) => Some(written.and(unwritten)),
            (written, unwritten) => written.or(unwritten),
        };
        if let Some(wait) = failures.and_then(|failures| limits.delay.wait(failures, now)) {
            return Err(refused(wait));
        }
        let failures = failures.map_or(0, |failures| failures.count);
        Ok(AllowedAttempt { key, failures, arrival, _turn: turn })
    }

    /// Records and counts a wrong password for `account`, if there is one. A failure that cannot be written, which storage
    /// logs, counts in memory until it can be.
    pub(super) async fn note_failure(
        &self,
        attempt: Option<AllowedAttempt>,
        action: Action,
        account: Option<UserId>,
        context: &AuditContext,
    ) {
        let (Some(limits), Some(attempt)) = (&self.limits, attempt) else {
            let _ = self.storage.record_wrong_password(action, account, None, context).await;
            return;
        };
        let last_at = attempt.arrival.now();
        let count =
            limits.unwritten.get(&attempt.key, last_at).map_or(1, |unwritten| unwritten.count.saturating_add(1));
        let failures = Failures { count, last_at };
        // Before it is written: a client that disconnects now cancels this future, and the failure must count.
        limits.unwritten.set(attempt.key, failures);
        let written =
            self.storage.record_wrong_password(action, account, Some((&attempt.key, failures)), context).await;
        if written.is_ok() {
            limits.unwritten.remove(&attempt.key);
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
