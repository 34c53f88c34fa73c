//! How the operators of one statement share what it may hold.
//!
//! # Why not the engine's fair pool
//! It divides what operators that cannot spill leave. A sort has two consumers, though: the one
//! that gathers rows and is told to spill, and the one that merges what was spilled, which the
//! engine says cannot. A few such merges leave the gathering nothing, not even for one batch, and a
//! statement is refused that had only to go on spilling. Here both are sharers, each with the same
//! part, and a quarter is kept for what truly cannot spill: merges of whole partitions, the small
//! side of a join.
//!
//! What it guarantees: a sharer always gets what is within its part, so nobody starves it; what
//! cannot spill always gets what is within the quarter, and more while sharers leave it.
//! What it does not: parts grow smaller as sharers are added, and what was given is not taken back;
//! a merge's cursors are reservations of their own. Both may exceed the limit for a moment; the
//! limit of the server is strict.

use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};

/// The engine's name for what merges the spilled parts of a sort. It goes on with as few parts at a
/// time as it gets room for.
const SORT_MERGE: &str = "ExternalSorterMerge";
/// This part of the limit is not shared.
const KEPT: usize = 4;

/// The limit of one statement and who uses it.
#[derive(Debug)]
pub(super) struct Sharing {
    limit_bytes: usize,
    shares: Mutex<Shares>,
}

#[derive(Debug, Default)]
struct Shares {
    sharers: usize,
    /// What sharers hold.
    shared: usize,
    /// What the others hold.
    fixed: usize,
}

/// Why nothing was given: what there is for the one that asked, and how much of it is in use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spent {
    pub used: usize,
    pub limit: usize,
}

impl Sharing {
    pub(super) fn new(limit_bytes: usize) -> Sharing {
        Sharing { limit_bytes, shares: Mutex::default() }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit_bytes
    }

    pub(super) fn used(&self) -> usize {
        let shares = self.shares();
        shares.shared.saturating_add(shares.fixed)
    }

    pub(super) fn register(&self, consumer: &MemoryConsumer) {
        if is_sharer(consumer) {
            self.shares().sharers += 1;
        }
    }

    pub(super) fn unregister(&self, consumer: &MemoryConsumer) {
        if is_sharer(consumer) {
            let mut shares = self.shares();
            shares.sharers = shares.sharers.saturating_sub(1);
        }
    }

    /// Gives without asking whether it is there.
    pub(super) fn give(&self, to: &MemoryReservation, bytes: usize) {
        let mut shares = self.shares();
        let held = shares.held(to);
        *held = held.saturating_add(bytes);
    }

    pub(super) fn take_back(&self, from: &MemoryReservation, bytes: usize) {
        let mut shares = self.shares();
        let held = shares.held(from);
        *held = held.saturating_sub(bytes);
    }

    /// Gives `bytes` if they are there for the one that asks.
    pub(super) fn try_give(&self, to: &MemoryReservation, bytes: usize) -> Result<(), Spent> {
        let kept = self.limit_bytes / KEPT;
        let mut shares = self.shares();
        let (used, limit) = match is_sharer(to.consumer()) {
            true => {
                let shared = self.limit_bytes.saturating_sub(shares.fixed.max(kept));
                (to.size(), shared / shares.sharers.max(1))
            }
            false => (shares.fixed, self.limit_bytes.saturating_sub(shares.shared).max(kept)),
        };
        match used.checked_add(bytes) {
            Some(wanted) if wanted <= limit => {
                let held = shares.held(to);
                *held = held.saturating_add(bytes);
                Ok(())
            }
            _ => Err(Spent { used, limit }),
        }
    }

    /// Numbers alone: they are whole even where a thread panicked meanwhile.
    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shares {
    fn held(&mut self, by: &MemoryReservation) -> &mut usize {
        match is_sharer(by.consumer()) {
            true => &mut self.shared,
            false => &mut self.fixed,
        }
    }
}

fn is_sharer(consumer: &MemoryConsumer) -> bool {
    consumer.can_spill() || consumer.name().starts_with(SORT_MERGE)
}
