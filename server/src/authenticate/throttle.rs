//! Slows down those who keep failing to log in.
//!
//! What it guarantees: after a few failures for a role or from an address, further tries are let
//! through one by one with growing distance, however many connections try at once; when the queue
//! is long they are refused. What is remembered is bounded in number and in time.
//! What it does not: it never locks an account for good, or anybody could lock anybody out.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures that cost nothing: people mistype.
const FREE_FAILURES: u32 = 5;
/// The distance between tries after the first failure that counts; it doubles with each.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY_FOR_ROLE: Duration = Duration::from_secs(2);
const LONGEST_DELAY_FOR_ADDRESS: Duration = Duration::from_secs(30);
/// Who would have to wait longer than this is refused instead of being kept waiting.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// Failures older than this are forgotten.
const MEMORY: Duration = Duration::from_secs(600);
/// So many roles and addresses are remembered; then the one that failed longest ago is dropped.
const CAPACITY: usize = 10_000;

/// What failures are counted for.
#[derive(Clone, Debug)]
pub(super) struct Key {
    kind: KeyKind,
    longest_delay: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum KeyKind {
    Role(String),
    /// One IPv4 address, or one IPv6 network of 64 bits: a host has all of it to itself.
    Address(IpAddr),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Now,
    /// A place in the queue, so far away.
    After(Duration),
    /// The queue is full for so long.
    Refused(Duration),
}

/// Counts of failures. Names are kept as a keyed hash, so that long ones cost no memory.
#[derive(Default)]
pub(super) struct Throttle {
    hasher: RandomState,
    entries: Mutex<HashMap<u64, Entry>>,
}

struct Entry {
    failures: u32,
    last_failure: Instant,
    next_try: Instant,
}

impl Key {
    pub(super) fn role(name: &str) -> Key {
        Key { kind: KeyKind::Role(name.to_owned()), longest_delay: LONGEST_DELAY_FOR_ROLE }
    }

    pub(super) fn address(address: IpAddr) -> Key {
        let network = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64))),
        };
        Key { kind: KeyKind::Address(network), longest_delay: LONGEST_DELAY_FOR_ADDRESS }
    }
}

impl Throttle {
    /// Whether a try may be made now; takes a place in the queue if it must wait.
    pub(super) fn admit(&self, key: &Key, now: Instant) -> Verdict {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get_mut(&self.hasher.hash_one(&key.kind)) else {
            return Verdict::Now;
        };
        if now.duration_since(entry.last_failure) > MEMORY || entry.failures < FREE_FAILURES {
            return Verdict::Now;
        }
        let wait = entry.next_try.saturating_duration_since(now);
        if wait > LONGEST_WAIT {
            return Verdict::Refused(wait);
        }
        entry.next_try = now + wait + delay(entry.failures, key.longest_delay);
        if wait.is_zero() { Verdict::Now } else { Verdict::After(wait) }
    }

    /// For how long a try that was let through is refused after all, since others have failed
    /// meanwhile.
    pub(super) fn is_shut(&self, key: &Key, now: Instant) -> Option<Duration> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(&self.hasher.hash_one(&key.kind))?;
        let counts =
            entry.failures >= FREE_FAILURES && now.duration_since(entry.last_failure) <= MEMORY;
        let wait = entry.next_try.saturating_duration_since(now);
        (counts && wait > LONGEST_WAIT).then_some(wait)
    }

    /// Counts a failure.
    pub(super) fn failed(&self, key: &Key, now: Instant) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = self.hasher.hash_one(&key.kind);
        if entries.len() >= CAPACITY && !entries.contains_key(&hash) {
            make_room(&mut entries, now);
        }
        let entry =
            entries.entry(hash).or_insert(Entry { failures: 0, last_failure: now, next_try: now });
        if now.duration_since(entry.last_failure) > MEMORY {
            entry.failures = 0;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last_failure = now;
        if entry.failures >= FREE_FAILURES {
            entry.next_try = entry.next_try.max(now + delay(entry.failures, key.longest_delay));
        }
    }

    /// A right password ends the suspicion.
    pub(super) fn forget(&self, key: &Key) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.remove(&self.hasher.hash_one(&key.kind));
    }
}

fn delay(failures: u32, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(FREE_FAILURES).min(16);
    FIRST_DELAY.saturating_mul(1 << doublings).min(longest)
}

fn make_room(entries: &mut HashMap<u64, Entry>, now: Instant) {
    entries.retain(|_, entry| now.duration_since(entry.last_failure) <= MEMORY);
    if entries.len() >= CAPACITY
        && let Some(oldest) =
            entries.iter().min_by_key(|(_, entry)| entry.last_failure).map(|(hash, _)| *hash)
    {
        entries.remove(&oldest);
    }
}

#[cfg(test)]
mod tests;
