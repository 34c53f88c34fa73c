//! When each version of a table was committed, and by whom.
//!
//! # Why an index of our own
//! Delta falls back to the log files' own times, which a copy or a restore changes. The times here
//! are those inside the commits; a version's time is never earlier than the one before, so that a
//! point in time names one version.
//! What it guarantees: only commits not seen before are read. What it does not: commits that
//! another tool's clean-up removed are not known; they are passed over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use deltalake_core::logstore::LogStoreRef;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::commit::STATEMENT_KEY;
use super::{Location, OPEN_TABLES, Tables, delta_error, lock};
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

/// Commit times by table and version: sixteen bytes a commit, for the tables in use.
#[derive(Default)]
pub(super) struct Times(Mutex<HashMap<Location, BTreeMap<u64, i64>>>);

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
        let known = lock(&self.inner.times.0).get(location).cloned().unwrap_or_default();
        let unknown: Vec<u64> =
            (0..=snapshot.version()).filter(|version| !known.contains_key(version)).collect();
        let read: Vec<Option<CommitRecord>> = stream::iter(unknown)
            .map(|version| read_record(snapshot.log_store().clone(), version))
            .buffered(CONCURRENT_READS)
            .try_collect()
            .await?;
        for record in read.into_iter().flatten() {
            self.note_commit_time(location, record.version, record.time_ms);
        }
        let times = lock(&self.inner.times.0);
        let mut newest = i64::MIN;
        let mut found = None;
        for (version, time) in times.get(location).into_iter().flatten() {
            newest = newest.max(*time);
            if newest > time_ms || *version > snapshot.version() {
                break;
            }
            found = Some(*version);
        }
        Ok(found)
    }

    /// When `version` was committed; the distant past where nobody says.
    pub(super) async fn commit_time(
        &self,
        location: &Location,
        log_store: &LogStoreRef,
        version: u64,
    ) -> Result<i64> {
        let known =
            lock(&self.inner.times.0).get(location).and_then(|it| it.get(&version).copied());
        match known {
            Some(time) => Ok(time),
            None => {
                let record = read_record(log_store.clone(), version).await?;
                let time_ms = record.map_or(i64::MIN, |record| record.time_ms);
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
        let mut times = lock(&self.inner.times.0);
        if times.len() >= OPEN_TABLES
            && !times.contains_key(location)
            && let Some(other) = times.keys().next().cloned()
        {
            times.remove(&other);
        }
        times.entry(location.clone()).or_default().insert(version, time_ms);
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
