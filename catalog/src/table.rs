//! Delta tables: the only module that calls delta-rs.
//!
//! What it is: snapshots ([`Snapshot`]), files written but not yet visible ([`Stage`]), and the
//! commit that makes them visible ([`Tables::commit`]).
//! What it guarantees: a commit is a compare-and-swap on the version that was read; it is durable
//! when it is acknowledged; no literal of a statement reaches a Delta log. Tables made here are
//! plain Delta tables without deletion vectors and column mapping.
//! What it does not: it checks no right and no constraint; `sql` does, before it stages rows.
//! On failure: staged files that were not committed are invisible, and removed where we still can.

mod alter;
mod bloom;
mod bounds;
mod branch;
mod changes;
mod checkpoint;
mod commit;
mod compact;
mod create;
mod files;
mod guard;
mod history;
mod kept;
mod leftovers;
mod lookup;
mod open;
mod order;
mod ordered;
mod schema;
mod snapshot;
mod stage;
#[cfg(test)]
mod tests;
mod width;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use tokio::sync::{Notify, OwnedMutexGuard};
use url::Url;

pub use bounds::is_exact as is_exact_in_log;
pub use branch::{Branch, Changes, Head, Place};
pub use changes::{CHANGE_TYPE, COMMIT_TIMESTAMP, COMMIT_VERSION};
pub use commit::{Basis, Commit, CommitAuthor, Load, Metrics};
pub use compact::{Compacted, Compaction, Effort, Progress};
pub use files::{FILE_COLUMN, ROW_COLUMN};
pub use history::CommitRecord;
pub use lookup::{Searched, valued};
pub use order::{Dependence, Turn};
pub use schema::TableColumn;
pub use snapshot::{DataFile, Snapshot, TableSize};
pub use stage::{KEPT_KEYS, Stage, Staged};

use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use kept::Kept;
use open::{Known, Turns};

/// What open snapshots and the times of commits take, where nobody says.
const CACHE_BYTES: usize = 256 << 20;
/// Of what may be kept: the newest snapshots get half, earlier ones a quarter, times an eighth, and
/// the numbers of versions the rest.
const NEWEST_PART: usize = 2;
const EARLIER_PART: usize = 4;
const TIMES_PART: usize = 8;
const SEEN_PART: usize = 8;

/// The name delta-rs and DataFusion know the warehouse's root by.
const ROOT_URL: &str = "kho://warehouse";

/// Where a table lives below the warehouse's root: `tables/<dataset>/<generation>/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    pub dataset: String,
    pub generation: u32,
}

/// The folder of the ledger's sealed part; no dataset's id has this form.
const SEALED_LEDGER: &str = "audit/sealed";

impl Location {
    /// The sealed part of the ledger, the one table that is no dataset's.
    pub fn of_ledger() -> Location {
        Location { dataset: SEALED_LEDGER.to_owned(), generation: 0 }
    }

    /// The table's folder, relative to the root.
    pub fn path(&self) -> Path {
        if self.dataset == SEALED_LEDGER {
            return Path::from(SEALED_LEDGER);
        }
        Path::from_iter(["tables", &self.dataset, &self.generation.to_string()])
    }

    /// The name delta-rs and DataFusion know the folder by; it names no machine and no bucket.
    fn url(&self) -> Result<Url> {
        Url::parse(&format!("{ROOT_URL}/{}/", self.path()))
            .map_err(|error| Error::internal("a table's location is not a URL").with_source(error))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path())
    }
}

/// All tables of one warehouse; cheap to clone.
#[derive(Clone)]
pub struct Tables {
    inner: Arc<Inner>,
}

struct Inner {
    environment: Environment,
    newest: Kept<Location, Known>,
    earlier: Kept<(Location, u64), Snapshot>,
    /// A version that was there, of tables whose snapshots may not be kept any more.
    seen: Kept<Location, u64>,
    /// Who brings a table's snapshot up to date.
    reading: Turns<Location>,
    /// Who writes a table.
    leases: Turns<Location>,
    /// By the names of tables that are to be made.
    making: Turns<String>,
    order: order::Order,
    times: history::Times,
    /// The newest time of a commit that this server has made or seen.
    newest_commit_ms: AtomicI64,
    /// The newest time that a transaction was given for its snapshot.
    began_ms: AtomicI64,
    written: Mutex<HashSet<Location>>,
    writes: Notify,
}

impl Tables {
    pub fn new(environment: Environment) -> Tables {
        Tables::with_cache(environment, CACHE_BYTES)
    }

    /// Tables of which about `cache_bytes` of what was read from their logs are kept in memory.
    pub fn with_cache(environment: Environment, cache_bytes: usize) -> Tables {
        Tables {
            inner: Arc::new(Inner {
                environment,
                newest: Kept::new(cache_bytes / NEWEST_PART),
                earlier: Kept::new(cache_bytes / EARLIER_PART),
                seen: Kept::new(cache_bytes / SEEN_PART),
                reading: Turns::default(),
                leases: Turns::default(),
                making: Turns::default(),
                order: order::Order::default(),
                times: history::Times::new(cache_bytes / TIMES_PART),
                newest_commit_ms: AtomicI64::new(i64::MIN),
                began_ms: AtomicI64::new(i64::MIN),
                written: Mutex::default(),
                writes: Notify::new(),
            }),
        }
    }

    pub fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    /// The time of a snapshot taken now: not before any commit that this server has made or seen,
    /// and before every one that it makes later.
    pub fn begin_snapshot(&self) -> i64 {
        let seen_ms = self.inner.newest_commit_ms.load(Ordering::Acquire);
        let time_ms = self.environment().now_ms().max(seen_ms);
        self.inner.began_ms.fetch_max(time_ms, Ordering::AcqRel);
        time_ms
    }

    /// The right to write one table, within this server: held while a statement reads, stages
    /// and commits, so that writers of one server never lose against each other.
    pub async fn lease(&self, location: &Location) -> OwnedMutexGuard<()> {
        self.inner.leases.take(location).await
    }

    /// The turn to make what `key` says, within this server: for who would rather write it once it is
    /// there. Whoever has the same key waits, so that it says who asks, too.
    pub async fn turn_to_make(&self, key: &str) -> OwnedMutexGuard<()> {
        self.inner.making.take(&key.to_owned()).await
    }

    /// Waits until a table is written through here, and gives the tables that were since the last
    /// call. For one caller at a time.
    pub async fn written(&self) -> HashSet<Location> {
        loop {
            let notified = self.inner.writes.notified();
            let written = std::mem::take(&mut *lock(&self.inner.written));
            if !written.is_empty() {
                return written;
            }
            notified.await;
        }
    }

    fn note_written(&self, location: &Location) {
        lock(&self.inner.written).insert(location.clone());
        self.inner.writes.notify_one();
    }

    fn log_store(&self, location: &Location) -> Result<LogStoreRef> {
        self.log_store_over(location, self.inner.environment.store().clone())
    }

    /// The same where the warehouse's root is seen through `root`.
    fn log_store_over(
        &self,
        location: &Location,
        root: Arc<dyn ObjectStore>,
    ) -> Result<LogStoreRef> {
        let table: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(root.clone(), location.path()));
        let config = StorageConfig::default();
        Ok(Arc::new(guard::GuardedLogStore::new(default_logstore(
            table,
            root,
            &location.url()?,
            &config,
        ))))
    }
}

/// A lock whose holder cannot leave it half changed: a panic elsewhere does not poison it for us.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Translates what delta-rs says, once, where it enters.
fn delta_error(error: deltalake_core::DeltaTableError) -> Error {
    use deltalake_core::DeltaTableError as Delta;
    match error {
        Delta::ObjectStore { source } => source.into(),
        Delta::NotATable(_) => {
            Error::new(Kind::DataCorrupted, "the table's log is gone").with_source(error)
        }
        other => Error::of_storage(below_kernel(&other))
            .unwrap_or_else(|| {
                Error::new(Kind::Io, "the table could not be read or written")
                    .with_hint("See the server's log.")
            })
            .with_source(other),
    }
}

/// The kernel names no source for what storage told it.
fn below_kernel(error: &deltalake_core::DeltaTableError) -> &(dyn std::error::Error + 'static) {
    use delta_kernel::Error as Kernel;
    let deltalake_core::DeltaTableError::KernelError(kernel) = error else { return error };
    let mut kernel = kernel;
    loop {
        match kernel {
            Kernel::Backtraced { source, .. } => kernel = source,
            Kernel::ObjectStore(inner) => return inner,
            Kernel::IOError(inner) => return inner,
            _ => return error,
        }
    }
}
