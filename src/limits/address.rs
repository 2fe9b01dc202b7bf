//! Limits by client address: a generic cell rate algorithm (the crate `governor`) over a bounded table of addresses.

use crate::config::Rate;
use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, MonotonicClock},
    nanos::Nanos,
    state::StateStore,
};
use lru::LruCache;
use std::{
    hash::BuildHasher,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How many addresses are kept. Beyond it the address that was seen longest ago is forgotten.
const MAX_ADDRESSES: usize = 100_000;

/// Requests of different addresses rarely wait for the same lock.
const SHARDS: usize = 16;

/// What is limited by address, named as the setting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressLimit {
    SignIn,
    Create,
    Refresh,
}

impl AddressLimit {
    /// The name of its setting, which is also its label in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::SignIn => "signin_per_address",
            Self::Create => "create_per_address",
            Self::Refresh => "refresh_per_address",
        }
    }
}

/// The rates of `rate_limit`.
#[derive(Debug, Clone, Copy)]
pub struct AddressRates {
    pub sign_in: Rate,
    pub create: Rate,
    pub refresh: Rate,
}

/// Counts the requests of each client address.
pub struct AddressLimits {
    /// In the order of [`AddressLimit`].
    limiters: [RateLimiter<u64, Column, MonotonicClock>; 3],
    #[cfg(test)]
    table: Arc<Table>,
}

impl AddressLimits {
    pub fn new(rates: AddressRates) -> Self {
        let table = Arc::new(Table::new(MAX_ADDRESSES));
        let limiter = |column, Rate { count, per }: Rate| {
            let refill = Quota::with_period((per / count.get()).max(Duration::from_nanos(1)));
            // `with_period` is `None` for zero alone.
            let quota = refill.unwrap_or_else(|| Quota::per_second(count)).allow_burst(count);
            RateLimiter::new(quota, Column { table: Arc::clone(&table), column }, MonotonicClock)
        };
        Self {
            limiters: [limiter(0, rates.sign_in), limiter(1, rates.create), limiter(2, rates.refresh)],
            #[cfg(test)]
            table: Arc::clone(&table),
        }
    }

    /// Counts a request of `address`.
    ///
    /// # Errors
    /// How long the client has to wait, when the limit is reached. A refused request is not counted.
    pub fn check(&self, limit: AddressLimit, address: IpAddr) -> Result<(), Duration> {
        let limiter = &self.limiters[limit as usize];
        let checked = limiter.check_key(&network_bits(address));
        checked.map_err(|refused| refused.wait_time_from(limiter.clock().now()))
    }
}

/// The network of a client: an IPv4 address, or the /64 of an IPv6 address, of which one customer has all addresses.
pub fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// The network as a number. IPv4 has the numbers of `::/32`, which no client has (RFC 4291 §2.5).
fn network_bits(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// For each address the theoretical arrival times of the three limits.
struct Table {
    shards: Vec<Mutex<LruCache<u64, [Nanos; 3]>>>,
    max_per_shard: usize,
    hasher: std::hash::RandomState,
}

impl Table {
    fn new(max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(LruCache::unbounded())).collect();
        Self { shards, max_per_shard: max / SHARDS, hasher: std::hash::RandomState::new() }
    }
}

/// The part of the table that belongs to one limit.
struct Column {
    table: Arc<Table>,
    column: usize,
}

impl StateStore for Column {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Table { shards, max_per_shard, hasher } = &*self.table;
        // An attacker must not choose the shard.
        let [place, ..] = hasher.hash_one(key).to_ne_bytes();
        let shard = &shards[usize::from(place) % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let times = shard.get_or_insert_mut(*key, Default::default);
        let time = &mut times[self.column];
        // Zero is before every time, and so means a full bucket.
        let (outcome, next) = decide(Some(*time))?;
        *time = next;
        if shard.len() > *max_per_shard {
            shard.pop_lru();
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZero;

    fn rate(count: u32, seconds: u64) -> Rate {
        Rate { count: NonZero::new(count).unwrap(), per: Duration::from_secs(seconds) }
    }

    fn limits() -> AddressLimits {
        AddressLimits::new(AddressRates { sign_in: rate(30, 60), create: rate(10, 3600), refresh: rate(300, 60) })
    }

    #[test]
    fn a_burst_is_allowed_and_the_next_request_waits_for_the_refill() {
        let limits = limits();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..10 {
            assert!(limits.check(AddressLimit::Create, address).is_ok());
        }
        let wait = limits.check(AddressLimit::Create, address).unwrap_err();
        assert!((350..=360).contains(&wait.as_secs()), "10 an hour refill one in 360 s, not {wait:?}");
        assert!(limits.check(AddressLimit::SignIn, address).is_ok(), "each limit counts for itself");
        assert!(limits.check(AddressLimit::Create, "192.0.2.2".parse().unwrap()).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let of = |address: &str| network_bits(address.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(network("2001:db8::7".parse().unwrap()), "2001:db8:0:0::/64");
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1");
    }

    #[test]
    fn the_table_keeps_the_latest_addresses_and_no_more_than_its_limit() {
        let limits = limits();
        for number in 0..250_000_u32 {
            let _ = limits.check(AddressLimit::Create, std::net::Ipv4Addr::from_bits(number).into());
        }
        let table = Arc::clone(&limits.table);
        let kept: usize = table.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert_eq!(kept, MAX_ADDRESSES);
    }
}
