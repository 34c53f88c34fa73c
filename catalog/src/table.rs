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
mod branch;
mod changes;
mod checkpoint;
mod commit;
mod compact;
mod create;
mod files;
mod guard;
mod history;
mod leftovers;
mod lookup;
mod schema;
mod snapshot;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use tokio::sync::{Notify, OwnedMutexGuard};
use url::Url;

pub use branch::{Branch, Changes};
pub use changes::{CHANGE_TYPE, COMMIT_TIMESTAMP, COMMIT_VERSION};
pub use commit::{Basis, Commit, CommitAuthor, Load, Metrics};
pub use compact::{Compacted, Compaction, Effort, Progress};
pub use files::{FILE_COLUMN, ROW_COLUMN};
pub use history::CommitRecord;
pub use schema::TableColumn;
pub use snapshot::{DataFile, Snapshot};
pub use stage::{KEPT_KEYS, Stage, Staged};

use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};

/// How many tables' newest snapshots are kept open. A snapshot holds the list of its files.
const OPEN_TABLES: usize = 256;

/// The name delta-rs and DataFusion know the warehouse's root by.
const ROOT_URL: &str = "kho://warehouse";

/// Where a table lives below the warehouse's root: `tables/<dataset>/<generation>/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    pub dataset: String,
    pub generation: u32,
}

impl Location {
    /// The table's folder, relative to the root.
    pub fn path(&self) -> Path {
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
    open: Mutex<Open>,
    leases: Mutex<HashMap<Location, Weak<tokio::sync::Mutex<()>>>>,
    times: history::Times,
    /// The newest time of a commit that this server has made or seen.
    newest_commit_ms: AtomicI64,
    /// The newest time that a transaction was given for its snapshot.
    began_ms: AtomicI64,
    written: Mutex<HashSet<Location>>,
    writes: Notify,
}

/// The newest snapshots seen, least recently used out first.
#[derive(Default)]
struct Open {
    clock: u64,
    snapshots: HashMap<Location, (u64, Snapshot)>,
}

impl Tables {
    pub fn new(environment: Environment) -> Tables {
        Tables {
            inner: Arc::new(Inner {
                environment,
                open: Mutex::default(),
                leases: Mutex::default(),
                times: history::Times::default(),
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

    /// The newest version of a table. An open snapshot is brought up to date, not read anew.
    pub async fn latest(&self, location: &Location) -> Result<Snapshot> {
        let snapshot = match self.remembered(location) {
            Some(snapshot) => snapshot.refreshed().await?,
            None => Snapshot::open(location.clone(), self.log_store(location)?, None).await?,
        };
        self.remember(snapshot.clone());
        Ok(snapshot)
    }

    /// The version that was the newest at `time_ms`, in milliseconds since the epoch.
    ///
    /// # Errors
    /// `22023` where the table is younger.
    pub async fn as_of(&self, location: &Location, time_ms: i64) -> Result<Snapshot> {
        let latest = self.latest(location).await?;
        let newest_ms = self.commit_time(location, latest.log_store(), latest.version()).await?;
        if newest_ms <= time_ms {
            return Ok(latest);
        }
        match self.version_at(location, time_ms).await? {
            Some(version) => self.at_version(location, version).await,
            None => {
                Err(Error::new(Kind::InvalidParameterValue, "the table did not exist at that time"))
            }
        }
    }

    /// The time of a snapshot taken now: not before any commit that this server has made or seen,
    /// and before every one that it makes later.
    pub fn begin_snapshot(&self) -> i64 {
        let seen_ms = self.inner.newest_commit_ms.load(Ordering::Acquire);
        let time_ms = self.environment().now_ms().max(seen_ms);
        self.inner.began_ms.fetch_max(time_ms, Ordering::AcqRel);
        time_ms
    }

    /// One version of a table.
    ///
    /// # Errors
    /// `22023` where the table has no such version.
    pub async fn at_version(&self, location: &Location, version: u64) -> Result<Snapshot> {
        let latest = self.latest(location).await?;
        if version == latest.version() {
            return Ok(latest);
        }
        if version > latest.version() {
            return Err(Error::new(
                Kind::InvalidParameterValue,
                format!("version {version} does not exist"),
            )
            .with_detail(format!("The newest version is {}.", latest.version())));
        }
        Snapshot::open(location.clone(), self.log_store(location)?, Some(version)).await
    }

    /// The right to write one table, within this server: held while a statement reads, stages
    /// and commits, so that writers of one server never lose against each other.
    pub async fn lease(&self, location: &Location) -> OwnedMutexGuard<()> {
        let lease = {
            let mut leases = lock(&self.inner.leases);
            leases.retain(|_, lease| lease.strong_count() > 0);
            match leases.get(location).and_then(Weak::upgrade) {
                Some(lease) => lease,
                None => {
                    let lease = Arc::new(tokio::sync::Mutex::new(()));
                    leases.insert(location.clone(), Arc::downgrade(&lease));
                    lease
                }
            }
        };
        lease.lock_owned().await
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

    /// The newest version, for work in the background: it takes no place among the open tables.
    async fn glance(&self, location: &Location) -> Result<Snapshot> {
        match self.remembered(location) {
            Some(_) => self.latest(location).await,
            None => Snapshot::open(location.clone(), self.log_store(location)?, None).await,
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

    fn remembered(&self, location: &Location) -> Option<Snapshot> {
        let mut open = lock(&self.inner.open);
        open.clock += 1;
        let now = open.clock;
        open.snapshots.get_mut(location).map(|(used, snapshot)| {
            *used = now;
            snapshot.clone()
        })
    }

    fn remember(&self, snapshot: Snapshot) {
        let mut open = lock(&self.inner.open);
        open.clock += 1;
        let now = open.clock;
        open.snapshots.insert(snapshot.location().clone(), (now, snapshot));
        if open.snapshots.len() > OPEN_TABLES {
            let oldest = open.snapshots.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(location, _)| location.clone()) {
                open.snapshots.remove(&oldest);
            }
        }
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
