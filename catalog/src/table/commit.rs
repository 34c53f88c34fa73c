//! The commit: a compare-and-swap of the next version in a table's log.
//!
//! What it guarantees: a commit that returns a version is durable and happened once. An
//! [`Basis::Exact`] commit lands directly on the version it read, or fails with `40001`. An
//! [`Basis::Append`] commit may land later, but only when nothing but data was committed meanwhile;
//! a [`Basis::Rewrite`] commit only when, besides, none of the files it replaces was touched.
//! On failure: when the storage's answer is unclear, the same commit is put again, which finds
//! either the free version or an entry there, and whose that is by its nonce. A put that was given
//! up may still arrive, and only another one it cannot overwrite settles that. What stays unclear
//! is said to be (`58030`).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::kernel::{Action, CommitInfo, Transaction};
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
    /// Rows were put into other files and stayed the same rows.
    ///
    /// # Why it may land behind other commits
    /// What it says is "these files hold the rows of those". That stays true, and is all that
    /// matters, as long as those files are still live with the rows they had and the table has the
    /// shape it had. Rows that were added elsewhere meanwhile do not come into it. Without this a
    /// table that is always being written would never be compacted.
    Rewrite,
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
    /// A version that was there before the first of its files was staged; `None` where it brings
    /// no files of its own.
    pub(super) staged_after: Option<u64>,
    pub author: CommitAuthor,
    pub metrics: Metrics,
}

/// Names the statement in a commit's information.
pub(super) const STATEMENT_KEY: &str = "kho.statement";
/// Says that a commit's metadata are those that held before it.
const RESTATED_KEY: &str = "kho.restated";
/// Says that files which no version named were about to be removed when this was committed.
const SWEPT_KEY: &str = "kho.swept";
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
            staged_after: Some(staged.after),
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
        let staged_after = Some(staged.after);
        actions.extend(staged.into_actions());
        Ok(Commit {
            operation,
            basis: Basis::Exact,
            read_version: Some(snapshot.version()),
            actions,
            staged_after,
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

    /// The files that it brings, as its table names them.
    pub fn files(&self) -> HashSet<String> {
        let path = |action: &Action| match action {
            Action::Add(add) => Some(add.path.clone()),
            Action::Cdc(change) => Some(change.path.clone()),
            _ => None,
        };
        self.actions.iter().filter_map(path).collect()
    }

    /// The rows of those files of `snapshot` that it takes out.
    pub fn rows_taken_out(&self, snapshot: &Snapshot) -> u64 {
        let removed = replaced(self);
        let files = snapshot.files().into_iter().filter(|it| removed.contains(it.path.as_str()));
        files.filter_map(|file| file.records).sum()
    }

    /// The streams of loads that it goes on with.
    fn streams(&self) -> impl Iterator<Item = &str> {
        self.actions.iter().filter_map(|action| match action {
            Action::Txn(load) => Some(load.app_id.as_str()),
            _ => None,
        })
    }

    /// Some files of `snapshot` replaced by others that hold the same rows.
    ///
    /// # Why the metadata are stated once more
    /// delta-rs, up to 1.1.3 at least, passes over removals without a change of data when it checks
    /// for conflicts: its own stale `OPTIMIZE` would then double every row, its stale overwrite or
    /// unconditional `DELETE` would keep them. Every Delta writer refuses to follow a commit with
    /// metadata, whatever these are. The price: another program's append that was under way is
    /// refused too, and has to be sent again. Kho's own appends know better ([`only_data`]).
    pub(super) fn rewrite(
        snapshot: &Snapshot,
        replaced: &[usize],
        staged: super::Staged,
        author: CommitAuthor,
    ) -> Result<Commit> {
        let mut actions = vec![Action::Metadata(snapshot.eager().metadata().clone())];
        actions.extend(snapshot.remove_actions(replaced, false)?);
        let staged_after = Some(staged.after);
        actions.extend(staged.without_data_change().into_actions());
        Ok(Commit {
            operation: "OPTIMIZE",
            basis: Basis::Rewrite,
            read_version: Some(snapshot.version()),
            actions,
            staged_after,
            author,
            metrics: Metrics::default(),
        })
    }

    /// Nothing but a line in the log that no commit which was staged before can pass.
    pub(super) fn fence(snapshot: &Snapshot, author: CommitAuthor) -> Commit {
        Commit {
            operation: FENCE,
            basis: Basis::Exact,
            read_version: Some(snapshot.version()),
            actions: Vec::new(),
            staged_after: None,
            author,
            metrics: Metrics::default(),
        }
    }
}

/// Delta's name for the beginning of a removal of unnamed files.
const FENCE: &str = "VACUUM START";

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
        refuse_passed(log_store, &commit).await?;
        let nonce = self.environment().new_id();
        let mut version = commit.read_version.map_or(0, |read| read + 1);
        loop {
            let previous_ms = match version.checked_sub(1) {
                Some(previous) => self.commit_time(location, log_store, previous).await?,
                None => i64::MIN,
            };
            // A version's time is later than the one before, whatever the clock did: time travel
            // by time must have one answer.
            let begun_ms = self.inner.began_ms.load(Ordering::Acquire);
            let time_ms = (self.environment().now_ms())
                .max(previous_ms.saturating_add(1))
                .max(begun_ms.saturating_add(1));
            let entry = render(&commit, &nonce, time_ms)?;
            match put(log_store, version, entry).await {
                Ok(Put::Stored) => {
                    self.note_commit_time(location, version, time_ms);
                    self.note_written(location);
                    return Ok(version);
                }
                Ok(Put::Exists) => {}
                Err(error) => return Err(failed(log_store, version, error).await),
            }
            // It may be our own: the storage may have stored it and lost the answer.
            match log_store.read_commit_entry(version).await.map_err(unclear)? {
                Some(entry) if nonce_of(&entry).as_deref() == Some(&nonce) => {
                    self.note_written(location);
                    return Ok(version);
                }
                Some(entry) if may_follow(&commit, &entry) => version += 1,
                Some(_) => return Err(conflict()),
                None => return Err(Error::internal("a version that exists could not be read")),
            }
            commit.read_version = version.checked_sub(1);
        }
    }
}

/// Refuses files that were staged before what the commit's basis has passed already and no append
/// may pass, a fence or another shape: a writer may have moved on to a newer version with files it
/// staged at an older one, under the rules of then.
async fn refuse_passed(log_store: &LogStoreRef, commit: &Commit) -> Result<()> {
    let (Some(staged_after), Some(read_version)) = (commit.staged_after, commit.read_version)
    else {
        return Ok(());
    };
    for version in staged_after.saturating_add(1)..=read_version {
        let entry = log_store.read_commit_entry(version).await.map_err(super::delta_error)?;
        if entry.is_none_or(|entry| !only_data(&entry)) {
            return Err(conflict());
        }
    }
    Ok(())
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
        info: further_information(commit, nonce, metrics),
        ..CommitInfo::default()
    };
    let mut lines = vec![serde_json::to_string(&Action::CommitInfo(info))?];
    for action in &commit.actions {
        lines.push(serde_json::to_string(action)?);
    }
    Ok(Bytes::from(lines.join("\n")))
}

fn further_information(commit: &Commit, nonce: &str, metrics: Value) -> HashMap<String, Value> {
    let mut info = HashMap::from([
        (STATEMENT_KEY.to_owned(), json!(commit.author.statement)),
        (NONCE_KEY.to_owned(), json!(nonce)),
        ("operationMetrics".to_owned(), metrics),
    ]);
    if commit.basis == Basis::Rewrite {
        info.insert(RESTATED_KEY.to_owned(), json!(true));
    }
    if commit.operation == FENCE {
        info.insert(SWEPT_KEY.to_owned(), json!(true));
    }
    info
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

/// Whether `commit` still says the truth behind `entry`, a commit that it has not seen.
///
/// Rows that were put into other files are the same rows: whatever was read is still so, and what
/// was written stays right unless it replaces one of those files.
fn may_follow(commit: &Commit, entry: &Bytes) -> bool {
    match commit.basis {
        Basis::New => false,
        Basis::Exact => {
            only_data(entry) && !changes_data(entry) && !touches(entry, &replaced(commit))
        }
        Basis::Append => only_data(entry) && !goes_on_with(commit, entry),
        Basis::Rewrite => only_data(entry) && !touches(entry, &replaced(commit)),
    }
}

/// Whether `entry` is of a stream of loads that `commit` goes on with.
fn goes_on_with(commit: &Commit, entry: &Bytes) -> bool {
    actions(entry).any(|action| {
        let stream = action.get("txn").and_then(|load| load.get("appId")).and_then(Value::as_str);
        stream.is_some_and(|stream| commit.streams().any(|it| it == stream))
    })
}

/// Whether a commit did more than put rows into other files.
fn changes_data(entry: &Bytes) -> bool {
    actions(entry).any(|action| {
        let file = ["add", "remove"].iter().find_map(|key| action.get(*key));
        let kept = |file: &Value| file.get("dataChange").and_then(Value::as_bool) == Some(false);
        file.is_some_and(|file| !kept(file))
            || ["txn", "cdc"].iter().any(|it| action.get(it).is_some())
    })
}

/// Whether a commit left schema and protocol alone, so that an append may follow it. Metadata that
/// were only stated once more did. A fence lets nothing pass: what was staged before it may have
/// been taken for a leftover.
fn only_data(entry: &Bytes) -> bool {
    let restated = says(entry, RESTATED_KEY);
    whole(entry)
        && !is_fence(entry)
        && !actions(entry)
            .any(|it| it.get("metaData").is_some() && !restated || it.get("protocol").is_some())
}

/// Whether every row of the table is behind the commit what it was before.
pub(super) fn leaves_rows(entry: &Bytes) -> bool {
    !changes_data(entry) && (is_fence(entry) || only_data(entry))
}

/// Whether a commit says that it looked at no row of its table, or changed none.
pub(super) fn is_blind(entry: &Bytes) -> bool {
    let blind = only_data(entry) && says(entry, "isBlindAppend");
    blind || leaves_rows(entry)
}

fn is_fence(entry: &Bytes) -> bool {
    says(entry, SWEPT_KEY)
}

/// Whether a commit's information has `true` under `key`.
fn says(entry: &Bytes, key: &str) -> bool {
    actions(entry).any(|it| it.get("commitInfo").and_then(|it| it.get(key)) == Some(&json!(true)))
}

/// The files that a commit takes out.
fn replaced(commit: &Commit) -> HashSet<&str> {
    let removed = commit.actions.iter().filter_map(|action| match action {
        Action::Remove(remove) => Some(remove.path.as_str()),
        _ => None,
    });
    removed.collect()
}

/// Whether a commit removed or added anew one of `files`, or one whose name could be written in
/// more than one way.
fn touches(entry: &Bytes, files: &HashSet<&str>) -> bool {
    actions(entry).any(|action| {
        let named = ["add", "remove"].iter().find_map(|key| action.get(*key));
        match named.map(|file| file.get("path").and_then(Value::as_str)) {
            None => false,
            Some(None) => true,
            Some(Some(path)) => files.contains(path) || !is_plain(path),
        }
    })
}

/// Whether a file's name has one spelling only: no escapes, no absolute place.
pub(super) fn is_plain(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=".contains(&byte))
        && !path.starts_with('/')
}

/// Whether every line of an entry could be read.
pub(super) fn whole(entry: &Bytes) -> bool {
    let lines = entry.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.count() == actions(entry).count()
}

pub(super) fn actions(entry: &Bytes) -> impl Iterator<Item = Value> + '_ {
    entry.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

pub(super) fn conflict() -> Error {
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
