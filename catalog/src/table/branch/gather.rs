//! Putting the small files of a transaction together.
//!
//! # Why
//! Each statement writes a file of its own; a thousand `INSERT`s are to end in one file, and a
//! statement that reads the thousand rows before it is to open few.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnv;
use deltalake_core::kernel::{Action, Add, Remove};
use object_store::path::Path;

use super::super::commit::{Basis, Commit, Metrics, is_plain};
use super::super::compact;
use super::super::files::ScanFile;
use super::super::snapshot::join;
use super::super::stage::Staged;
use super::Branch;
use super::head::Brings;
use crate::error::{Error, Result};
use crate::state::Key;

/// A larger file stays as it is.
const SMALL_BYTES: i64 = 1 << 20;
/// The operation of a step that puts files together.
const GATHER: &str = "OPTIMIZE";
/// So many small files are put together at once. A row is written log(n) times to this base.
const FILES_MAX: usize = 64;

impl Branch {
    /// Puts small files together where they are many. The new one is made to be searched by `keys`.
    pub async fn gather_many(&mut self, keys: &[Key]) -> Result<()> {
        match self.small.len() >= FILES_MAX {
            true => self.gather(keys).await,
            false => Ok(()),
        }
    }

    /// Puts all small files together, for the commit.
    pub async fn gather(&mut self, keys: &[Key]) -> Result<()> {
        let Some(last) = self.steps.last() else { return Ok(()) };
        if self.small.len() < 2 {
            return Ok(());
        }
        let author = last.commit.author.clone();
        let staged = self.rewritten(keys).await?;
        let staged_after = Some(staged.after);
        let removed =
            std::mem::take(&mut self.small).into_iter().map(|add| Action::Remove(remove(add)));
        let mut actions: Vec<Action> = removed.collect();
        actions.extend(staged.without_data_change().into_actions());
        let commit = Commit {
            operation: GATHER,
            basis: Basis::Exact,
            read_version: Some(self.head.version()),
            actions,
            staged_after,
            author,
            metrics: Metrics::default(),
        };
        let version = self.write_entry(&commit, Brings::Nothing).await?;
        note(&mut self.small, &commit);
        if let Some(last) = self.steps.last_mut() {
            last.version = version;
            last.gathered.push(commit);
        }
        Ok(())
    }

    /// The rows of all small files in files of their own, in the order they came.
    async fn rewritten(&self, keys: &[Key]) -> Result<Staged> {
        let shape = self.head.shape();
        let location = shape.location();
        let place = Some(self.place());
        let mut stage = self.tables.stage_at(place.as_ref(), location, &shape.columns()?, keys);
        let store = self.tables.environment().store().clone();
        let files = scan_files(&self.small, &location.path());
        let runtime = Arc::new(RuntimeEnv::default());
        let written = match compact::rows(store, shape.schema(), files, &[], &runtime).await {
            Ok(rows) => compact::write_rows(&mut stage, rows, |_| {}).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            stage.abort().await;
            return Err(error);
        }
        let staged = stage.finish().await?;
        let expected: Option<u64> = self.small.iter().map(records).sum();
        if expected != Some(staged.rows) {
            let message = format!("{expected:?} rows of a transaction became {}", staged.rows);
            staged.discard().await;
            return Err(Error::internal(message));
        }
        Ok(staged)
    }
}

/// Brings the list of small files up to date with a step. Only files of nothing but new rows are
/// put together: what others are said to have changed is told apart from them.
pub(super) fn note(small: &mut Vec<Add>, step: &Commit) {
    let gone: HashSet<&str> = step.actions.iter().filter_map(removed_path).collect();
    small.retain(|add| !gone.contains(add.path.as_str()));
    let is_new = |action: &Action| match action {
        Action::Add(add) => add.deletion_vector.is_none(),
        Action::Txn(_) => true,
        _ => false,
    };
    let gathers = step.operation == GATHER;
    if step.operation == "RESTORE" || !(gathers || step.actions.iter().all(is_new)) {
        return;
    }
    for action in &step.actions {
        if let Action::Add(add) = action
            && add.size < SMALL_BYTES
            && records(add).is_some()
            && is_plain(&add.path)
        {
            small.push(add.clone());
        }
    }
}

fn removed_path(action: &Action) -> Option<&str> {
    match action {
        Action::Remove(remove) => Some(&remove.path),
        _ => None,
    }
}

fn records(add: &Add) -> Option<u64> {
    let stats: serde_json::Value = serde_json::from_str(add.stats.as_deref()?).ok()?;
    stats.get("numRecords")?.as_u64()
}

fn remove(add: Add) -> Remove {
    Remove {
        path: add.path,
        data_change: false,
        deletion_timestamp: Some(add.modification_time),
        extended_file_metadata: Some(true),
        partition_values: Some(add.partition_values),
        size: Some(add.size),
        tags: add.tags,
        deletion_vector: add.deletion_vector,
        base_row_id: add.base_row_id,
        default_row_commit_version: add.default_row_commit_version,
    }
}

fn scan_files(adds: &[Add], folder: &Path) -> Vec<ScanFile> {
    let file = |(index, add): (usize, &Add)| ScanFile {
        path: join(folder, &add.path),
        size_bytes: u64::try_from(add.size).unwrap_or_default(),
        index: index as u64,
        constants: HashMap::new(),
    };
    adds.iter().enumerate().map(file).collect()
}
