//! When each version of a table was committed, and by whom.
//!
//! # Why an index of our own
//! Delta falls back to the log files' own times, which a copy or a restore changes. The times here
//! are those inside the commits; a version's time is never earlier than the one before, so that a
//! point in time names one version.
//! What it guarantees: only commits not seen before are read. What it does not: commits that
//! another tool's clean-up removed are not known; they are passed over.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use deltalake_core::logstore::LogStoreRef;
use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};
use serde_json::Value;

use super::commit::STATEMENT_KEY;
use super::kept::Kept;
use super::{Location, Tables, delta_error, lock};
use crate::error::Result;

/// How far the clocks of a warehouse's servers may be apart.
const CLOCKS_APART_MS: i64 = 60_000;
/// How many commits are read at a time.
const CONCURRENT_READS: usize = 16;

/// What a table's log says of one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitRecord {
    pub version: u64,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    pub operation: Option<String>,
    pub role: Option<String>,
    /// The id of the statement, as in the ledger.
    pub statement: Option<String>,
    pub engine: Option<String>,
    pub rows_inserted: Option<i64>,
    pub rows_updated: Option<i64>,
    pub rows_deleted: Option<i64>,
    pub files_added: Option<i64>,
    pub files_removed: Option<i64>,
}

/// Commit times by table: eight bytes a commit, for the tables in use.
pub(super) struct Times(Kept<Location, Arc<Mutex<Known>>>);

/// What is known of one table's times.
#[derive(Default)]
struct Known {
    /// The time of each version from 0 on, none earlier than the one before; `UNKNOWN` for commits
    /// that are gone.
    times: Vec<i64>,
    /// Times of versions behind a gap.
    ahead: BTreeMap<u64, i64>,
}

const UNKNOWN: i64 = i64::MIN;

impl Known {
    /// Takes the time of `version`; one that is known already stays as it is.
    fn note(&mut self, version: u64, time_ms: i64) {
        self.ahead.insert(version, time_ms);
        while let Some((version, time)) = self.ahead.pop_first() {
            let next = self.times.len() as u64;
            if version > next {
                self.ahead.insert(version, time);
                return;
            }
            if version == next {
                self.times.push(self.times.last().map_or(time, |newest| time.max(*newest)));
            }
        }
    }

    fn time(&self, version: u64) -> Option<i64> {
        let known = usize::try_from(version).ok().and_then(|version| self.times.get(version));
        known.or_else(|| self.ahead.get(&version)).copied()
    }

    /// The last version up to `newest` whose time is not after `time_ms`.
    fn version_at(&self, newest: u64, time_ms: i64) -> Option<u64> {
        let until = usize::try_from(newest).map_or(usize::MAX, |newest| newest.saturating_add(1));
        let times = self.times.get(..until.min(self.times.len())).unwrap_or_default();
        let found = times.partition_point(|time| *time <= time_ms).checked_sub(1)?;
        times.get(found).filter(|time| **time != UNKNOWN).map(|_| found as u64)
    }
}

impl Times {
    pub(super) fn new(limit_bytes: usize) -> Times {
        Times(Kept::new(limit_bytes))
    }

    fn of(&self, location: &Location) -> Arc<Mutex<Known>> {
        self.0.get(location).unwrap_or_default()
    }

    /// Keeps `known`, which may have grown.
    fn keep(&self, location: &Location, known: &Arc<Mutex<Known>>) {
        const TABLE_BYTES: usize = 256;
        const AHEAD_BYTES: usize = 32;
        let bytes = {
            let known = lock(known);
            known.times.capacity() * size_of::<i64>() + known.ahead.len() * AHEAD_BYTES
        };
        self.0.put(location.clone(), Arc::clone(known), TABLE_BYTES + bytes);
    }
}

impl Tables {
    /// Every commit of a table, oldest first.
    pub async fn history(&self, location: &Location) -> Result<Vec<CommitRecord>> {
        let snapshot = self.latest(location).await?;
        let records: Vec<Option<CommitRecord>> = stream::iter(0..=snapshot.version())
            .map(|version| read_record(snapshot.log_store().clone(), version))
            .buffered(CONCURRENT_READS)
            .try_collect()
            .await?;
        let mut newest = i64::MIN;
        let records = records.into_iter().flatten().map(|mut record| {
            newest = newest.max(record.time_ms);
            record.time_ms = newest;
            record
        });
        Ok(records.collect())
    }

    /// What the log says of one version; `None` where there is none yet.
    pub async fn commit_record(
        &self,
        location: &Location,
        version: u64,
    ) -> Result<Option<CommitRecord>> {
        read_record(self.log_store(location)?, version).await
    }

    /// The version that was the newest at `time_ms` (milliseconds since the epoch, inclusive);
    /// `None` for a time before the first.
    pub async fn version_at(&self, location: &Location, time_ms: i64) -> Result<Option<u64>> {
        let snapshot = self.latest(location).await?;
        let known = self.inner.times.of(location);
        let unknown: Vec<u64> = {
            let known = lock(&known);
            let first = known.times.len() as u64;
            (first..=snapshot.version()).filter(|it| !known.ahead.contains_key(it)).collect()
        };
        let read: Vec<(u64, Option<CommitRecord>)> = stream::iter(unknown)
            .map(|version| {
                let record = read_record(snapshot.log_store().clone(), version);
                record.map_ok(move |record| (version, record))
            })
            .buffered(CONCURRENT_READS)
            .try_collect()
            .await?;
        let found = {
            let mut known = lock(&known);
            for (version, record) in read {
                let time_ms = record.map_or(UNKNOWN, |record| record.time_ms);
                self.inner.newest_commit_ms.fetch_max(time_ms, Ordering::AcqRel);
                known.note(version, time_ms);
            }
            known.version_at(snapshot.version(), time_ms)
        };
        self.inner.times.keep(location, &known);
        Ok(found)
    }

    /// When `version` was committed; the distant past where nobody says.
    pub(super) async fn commit_time(
        &self,
        location: &Location,
        log_store: &LogStoreRef,
        version: u64,
    ) -> Result<i64> {
        let known = lock(&self.inner.times.of(location)).time(version);
        match known {
            Some(time) => Ok(time),
            None => {
                let record = read_record(log_store.clone(), version).await?;
                let time_ms = record.map_or(UNKNOWN, |record| record.time_ms);
                self.note_commit_time(location, version, time_ms);
                Ok(time_ms)
            }
        }
    }

    pub(super) fn note_commit_time(&self, location: &Location, version: u64, time_ms: i64) {
        // A clock that is far ahead is one table's trouble, not that of every snapshot.
        if time_ms <= self.environment().now_ms().saturating_add(CLOCKS_APART_MS) {
            self.inner.newest_commit_ms.fetch_max(time_ms, Ordering::AcqRel);
        }
        let known = self.inner.times.of(location);
        lock(&known).note(version, time_ms);
        self.inner.times.keep(location, &known);
    }
}

async fn read_record(log_store: LogStoreRef, version: u64) -> Result<Option<CommitRecord>> {
    let entry = log_store.read_commit_entry(version).await.map_err(delta_error)?;
    Ok(entry.map(|entry| record(version, &entry)))
}

fn record(version: u64, entry: &Bytes) -> CommitRecord {
    let info = (entry.split(|byte| *byte == b'\n'))
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .find_map(|mut action| action.get_mut("commitInfo").map(Value::take))
        .unwrap_or_default();
    let text = |key: &str| info.get(key).and_then(Value::as_str).map(str::to_owned);
    let metric = |key: &str| match info.get("operationMetrics")?.get(key)? {
        Value::String(number) => number.parse().ok(),
        other => other.as_i64(),
    };
    CommitRecord {
        version,
        time_ms: info.get("timestamp").and_then(Value::as_i64).unwrap_or_default(),
        operation: text("operation"),
        role: text("userName"),
        statement: text(STATEMENT_KEY),
        engine: text("engineInfo"),
        rows_inserted: metric("numOutputRows"),
        rows_updated: metric("numUpdatedRows"),
        rows_deleted: metric("numDeletedRows"),
        files_added: metric("numAddedFiles"),
        files_removed: metric("numRemovedFiles"),
    }
}
