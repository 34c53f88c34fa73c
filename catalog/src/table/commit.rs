//! The commit: a compare-and-swap of the next version in a table's log.
//!
//! What it guarantees: a commit that returns a version is durable and happened once. An
//! [`Basis::Exact`] commit lands directly on the version it read, or fails with `40001`. An
//! [`Basis::Append`] commit may land later, but only when nothing but data was committed meanwhile.
//! On failure: when the storage's answer is unclear, the log is read again and our own nonce is
//! looked for, before anything is said to have failed.

use std::collections::HashMap;

use bytes::Bytes;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::kernel::{Action, CommitInfo, Transaction};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Location, Snapshot, Tables, delta_error};
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

/// A numbered load of a stream of loads, by which a retried one finds itself (Delta's application
/// transaction, in the same commit as the rows).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    pub stream: String,
    pub sequence: i64,
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

    /// The commit as the one of `load`: with it, or not at all.
    #[must_use]
    pub fn with_load(mut self, load: Load) -> Commit {
        self.actions.push(Action::Txn(Transaction::new(load.stream, load.sequence)));
        self
    }

    /// The streams of loads that it goes on with.
    fn streams(&self) -> impl Iterator<Item = &str> {
        self.actions.iter().filter_map(|action| match action {
            Action::Txn(load) => Some(load.app_id.as_str()),
            _ => None,
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
            let written = log_store
                .write_commit_entry(version, CommitOrBytes::LogBytes(entry), Uuid::new_v4())
                .await;
            let Err(error) = written else {
                self.note_commit_time(location, version, time_ms);
                return Ok(version);
            };
            // The storage may have stored our entry and lost the answer.
            match log_store.read_commit_entry(version).await.map_err(delta_error)? {
                Some(entry) if nonce_of(&entry).as_deref() == Some(&nonce) => return Ok(version),
                Some(entry) if commit.basis == Basis::Append && may_follow(&commit, &entry) => {
                    version += 1;
                }
                Some(_) => return Err(conflict()),
                None => return Err(failed(error)),
            }
            commit.read_version = version.checked_sub(1);
        }
    }
}

pub(super) fn render(commit: &Commit, nonce: &str, time_ms: i64) -> Result<Bytes> {
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

/// Whether `entry` left schema and protocol alone and is not of a stream of loads that `commit`
/// goes on with, so that its append may follow.
fn may_follow(commit: &Commit, entry: &Bytes) -> bool {
    let same_stream = |action: &Value| {
        let stream = action.get("txn").and_then(|load| load.get("appId")).and_then(Value::as_str);
        stream.is_some_and(|stream| commit.streams().any(|it| it == stream))
    };
    !actions(entry)
        .any(|it| it.get("metaData").is_some() || it.get("protocol").is_some() || same_stream(&it))
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

fn failed(error: TransactionError) -> Error {
    match error {
        TransactionError::ObjectStore { source } => source.into(),
        other => Error::new(Kind::Io, "the commit could not be written").with_source(other),
    }
}
