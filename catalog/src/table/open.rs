//! Open snapshots: kept, brought up to date by one question, and shared by all who read.
//!
//! What it guarantees: a snapshot that is given is the newest of its table at some moment since it
//! was asked for. Nothing of the log is read twice, however long it is: where nobody committed, one
//! request finds that out. What is kept is bounded in bytes.
//! What it does not: another tool's clean-up of the log can hide commits from that request, so
//! every so often the log is listed again.
//! On failure: `58030`; what was kept stays.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, Weak};

use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use tokio::sync::OwnedMutexGuard;

use super::{Location, Snapshot, Tables, lock};
use crate::error::{Error, Kind, Result};

/// How long "the next commit is not there" is taken to mean that there is none, and not that it
/// was cleaned up.
const LISTING_TRUSTED_MS: i64 = 60_000;

/// About what the number of a table's version takes.
const SEEN_BYTES: usize = 192;

/// The newest snapshot of a table that is known.
#[derive(Clone)]
pub(super) struct Known {
    snapshot: Snapshot,
    /// When the log was last listed, on the monotonic clock.
    listed_ms: i64,
}

/// One at a time for each table, or for each of what else there is a turn for.
pub(super) struct Turns<K>(Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Turns(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Turns<K> {
    pub(super) async fn take(&self, of: &K) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = lock(&self.0);
            turns.retain(|_, turn| turn.strong_count() > 0);
            match turns.get(of).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(tokio::sync::Mutex::new(()));
                    turns.insert(of.clone(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

impl Tables {
    /// The newest version of a table. An open snapshot is brought up to date, not read anew.
    pub async fn latest(&self, location: &Location) -> Result<Snapshot> {
        if let Some(known) = self.inner.newest.get(location)
            && !self.may_be_older(&known).await?
        {
            return Ok(known.snapshot);
        }
        // One reads what is new, the others wait for it; but what it read may be older than their
        // question, so each asks again.
        let _turn = self.inner.reading.take(location).await;
        let known = self.inner.newest.get(location);
        if let Some(known) = &known
            && !self.may_be_older(known).await?
        {
            return Ok(known.snapshot.clone());
        }
        let listed_ms = self.environment().monotonic_ms();
        let snapshot = match known {
            Some(known) => known.snapshot.refreshed().await?,
            None => Snapshot::open(location.clone(), self.log_store(location)?, None).await?,
        };
        let known = Known { snapshot: snapshot.clone(), listed_ms };
        self.inner.newest.put(location.clone(), known, snapshot.memory_bytes());
        self.inner.seen.put(location.clone(), snapshot.version(), SEEN_BYTES);
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

    /// The newest version, for work in the background: it takes no place among the open tables.
    pub(super) async fn glance(&self, location: &Location) -> Result<Snapshot> {
        match self.inner.newest.get(location) {
            Some(_) => self.latest(location).await,
            None => Snapshot::open(location.clone(), self.log_store(location)?, None).await,
        }
    }

    /// A version of the table that is there, as new as it is known without asking.
    pub(super) fn seen_version(&self, location: &Location) -> u64 {
        self.inner.seen.get(location).unwrap_or_default()
    }

    /// One version of a table.
    ///
    /// # Errors
    /// `22023` where the table has no such version.
    pub async fn at_version(&self, location: &Location, version: u64) -> Result<Snapshot> {
        let key = (location.clone(), version);
        if let Some(snapshot) = self.inner.earlier.get(&key) {
            return Ok(snapshot);
        }
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
        let log_store = self.log_store(location)?;
        let snapshot = Snapshot::open(location.clone(), log_store, Some(version)).await?;
        self.inner.earlier.put(key, snapshot.clone(), snapshot.memory_bytes());
        Ok(snapshot)
    }

    /// Whether there may be a newer version: the next commit is there, or nobody looked for long.
    async fn may_be_older(&self, known: &Known) -> Result<bool> {
        if self.environment().monotonic_ms() - known.listed_ms >= LISTING_TRUSTED_MS {
            return Ok(true);
        }
        let next = known.snapshot.version() + 1;
        match self.environment().store().head(&commit_path(known.snapshot.location(), next)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where a table's commit is, from the warehouse's root.
fn commit_path(location: &Location, version: u64) -> Path {
    location.path().join("_delta_log").join(format!("{version:020}.json"))
}
