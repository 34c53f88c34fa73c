//! The commit: a compare-and-swap of the next version in a table's log.
//!
//! What it guarantees: a commit that returns a version is durable and happened once. An
//! [`Basis::Exact`] commit lands directly on the version it read, or fails with `40001`. An
//! [`Basis::Append`] commit may land later, but only when nothing but data was committed meanwhile.
//! On failure: when the storage's answer is unclear, the same commit is put again, which finds
//! either the free version or an entry there, and whose that is by its nonce. A put that was given
//! up may still arrive, and only another one it cannot overwrite settles that. What stays unclear
//! is said to be (`58030`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::kernel::{Action, CommitInfo};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Location, Snapshot, Tables};
use crate::error::{Error, Kind, Result};

/// What a commit may assume of versions that came after the one it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The table's first version.
    New,
    /// Rows were added without looking at others.
    Append,
    /// Rows, or the schema, were read: nothing may have changed.
    Exact,
}

/// Who commits, for which statement.
#[derive(Clone, Debug)]
pub struct CommitAuthor {
    pub role: String,
    pub statement: String,
}

/// What a commit did to rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics {
    pub rows_inserted: u64,
    pub rows_updated: u64,
    pub rows_deleted: u64,
}

/// What is to be committed.
pub struct Commit {
    /// Delta's name of the operation (`WRITE`, `DELETE`, `UPDATE`, …).
    pub operation: &'static str,
    pub basis: Basis,
    pub read_version: Option<u64>,
    pub(super) actions: Vec<Action>,
    pub author: CommitAuthor,
    pub metrics: Metrics,
}

/// Names the statement in a commit's information.
pub(super) const STATEMENT_KEY: &str = "kho.statement";
const NONCE_KEY: &str = "kho.nonce";
/// Puts of one commit whose outcome is unclear.
const PUT_ATTEMPTS: usize = 3;
/// After which none is begun: who waits is told.
const PUT_AGAIN_WITHIN: Duration = Duration::from_secs(10);

impl Commit {
    /// Rows added, whatever was there.
    pub fn append(snapshot: &Snapshot, staged: super::Staged, author: CommitAuthor) -> Commit {
        let metrics = Metrics { rows_inserted: staged.rows, ..Metrics::default() };
        Commit {
            operation: "WRITE",
            basis: Basis::Append,
            read_version: Some(snapshot.version()),
            actions: staged.into_actions(),
            author,
            metrics,
        }
    }

    /// Some files of `snapshot` replaced by what was staged.
    pub fn replace(
        operation: &'static str,
        snapshot: &Snapshot,
        removed: &[usize],
        staged: super::Staged,
        author: CommitAuthor,
        metrics: Metrics,
    ) -> Result<Commit> {
        let mut actions = snapshot.remove_actions(removed, true)?;
        actions.extend(staged.into_actions());
        Ok(Commit {
            operation,
            basis: Basis::Exact,
            read_version: Some(snapshot.version()),
            actions,
            author,
            metrics,
        })
    }
}

impl Tables {
    /// Makes a commit visible.
    ///
    /// # Errors
    /// `40001` where another commit came first, `58030` where the storage failed and our commit is
    /// not in the log.
    pub async fn commit(&self, snapshot: &Snapshot, commit: Commit) -> Result<u64> {
        self.commit_to(snapshot.location(), snapshot.log_store(), commit).await
    }

    pub(super) async fn commit_to(
        &self,
        location: &Location,
        log_store: &LogStoreRef,
        mut commit: Commit,
    ) -> Result<u64> {
        let nonce = self.environment().new_id();
        let mut version = commit.read_version.map_or(0, |read| read + 1);
        loop {
            let previous_ms = match version.checked_sub(1) {
                Some(previous) => self.commit_time(location, log_store, previous).await?,
                None => i64::MIN,
            };
            // A version's time is later than the one before, whatever the clock did: time travel
            // by time must have one answer.
            let time_ms = self.environment().now_ms().max(previous_ms.saturating_add(1));
            let entry = render(&commit, &nonce, time_ms)?;
            match put(log_store, version, entry).await {
                Ok(Put::Stored) => {
                    self.note_commit_time(location, version, time_ms);
                    return Ok(version);
                }
                Ok(Put::Exists) => {}
                Err(error) => return Err(failed(log_store, version, error).await),
            }
            // It may be our own: the storage may have stored it and lost the answer.
            match log_store.read_commit_entry(version).await.map_err(unclear)? {
                Some(entry) if nonce_of(&entry).as_deref() == Some(&nonce) => return Ok(version),
                Some(entry) if commit.basis == Basis::Append && only_data(&entry) => version += 1,
                Some(_) => return Err(conflict()),
                None => return Err(Error::internal("a version that exists could not be read")),
            }
            commit.read_version = version.checked_sub(1);
        }
    }
}

enum Put {
    Stored,
    Exists,
}

/// Puts `entry` where no version is. An attempt that fails is repeated: where the first came no
/// further than making the name, this also makes the name durable.
async fn put(log_store: &LogStoreRef, version: u64, entry: Bytes) -> Result<Put, TransactionError> {
    let begun = Instant::now();
    let mut attempt = 1;
    loop {
        let commit = CommitOrBytes::LogBytes(entry.clone());
        match log_store.write_commit_entry(version, commit, Uuid::new_v4()).await {
            Ok(()) => return Ok(Put::Stored),
            Err(TransactionError::VersionAlreadyExists(_)) => return Ok(Put::Exists),
            Err(error) if attempt == PUT_ATTEMPTS || begun.elapsed() > PUT_AGAIN_WITHIN => {
                return Err(error);
            }
            Err(error) => tracing::warn!(%error, version, "a commit could not be put"),
        }
        attempt += 1;
    }
}

fn render(commit: &Commit, nonce: &str, time_ms: i64) -> Result<Bytes> {
    let (mut added, mut removed) = (0_u64, 0_u64);
    for action in &commit.actions {
        match action {
            Action::Add(_) => added += 1,
            Action::Remove(_) => removed += 1,
            _ => {}
        }
    }
    let metrics = json!({
        "numOutputRows": commit.metrics.rows_inserted.to_string(),
        "numUpdatedRows": commit.metrics.rows_updated.to_string(),
        "numDeletedRows": commit.metrics.rows_deleted.to_string(),
        "numAddedFiles": added.to_string(),
        "numRemovedFiles": removed.to_string(),
    });
    let info = CommitInfo {
        timestamp: Some(time_ms),
        user_name: Some(commit.author.role.clone()),
        operation: Some(commit.operation.to_owned()),
        operation_parameters: Some(parameters(commit)),
        read_version: commit.read_version,
        is_blind_append: Some(commit.basis == Basis::Append),
        engine_info: Some(concat!("kho:", env!("CARGO_PKG_VERSION")).to_owned()),
        info: HashMap::from([
            (STATEMENT_KEY.to_owned(), json!(commit.author.statement)),
            (NONCE_KEY.to_owned(), json!(nonce)),
            ("operationMetrics".to_owned(), metrics),
        ]),
        ..CommitInfo::default()
    };
    let mut lines = vec![serde_json::to_string(&Action::CommitInfo(info))?];
    for action in &commit.actions {
        lines.push(serde_json::to_string(action)?);
    }
    Ok(Bytes::from(lines.join("\n")))
}

/// What other tools expect to find; never a text of the statement.
fn parameters(commit: &Commit) -> HashMap<String, Value> {
    match commit.operation {
        "WRITE" => HashMap::from([
            ("mode".to_owned(), json!("Append")),
            ("partitionBy".to_owned(), json!("[]")),
        ]),
        _ => HashMap::new(),
    }
}

fn nonce_of(entry: &Bytes) -> Option<String> {
    actions(entry)
        .find_map(|action| action.get("commitInfo")?.get(NONCE_KEY)?.as_str().map(str::to_owned))
}

/// Whether a commit left schema and protocol alone, so that an append may follow it.
fn only_data(entry: &Bytes) -> bool {
    !actions(entry).any(|it| it.get("metaData").is_some() || it.get("protocol").is_some())
}

fn actions(entry: &Bytes) -> impl Iterator<Item = Value> + '_ {
    entry.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

fn conflict() -> Error {
    Error::new(
        Kind::SerializationFailure,
        "could not serialize access due to a concurrent change of the table",
    )
    .with_hint("Run the statement again.")
}

/// A disk that refused has not stored it, where it is not there; of any other storage nobody knows.
async fn failed(log_store: &LogStoreRef, version: u64, error: TransactionError) -> Error {
    match Error::of_refusing_disk(&error) {
        Some(told) if matches!(log_store.read_commit_entry(version).await, Ok(None)) => {
            told.with_source(error)
        }
        _ => unclear(error),
    }
}

fn unclear(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Io, "it is not known whether the change was stored")
        .with_hint("The warehouse's storage failed; look before you try again.")
        .with_source(error)
}
