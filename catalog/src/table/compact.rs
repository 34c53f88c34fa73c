//! Compaction: many small files of a table rewritten into few that are good to read.
//!
//! What it guarantees: the rows stay the same rows, and readers of changes see none; the commit is
//! a compare-and-swap ([`Basis::Rewrite`](super::Basis)), so that a writer in this server, in
//! another one or in another program either came first, and then nothing happens, or sees the new
//! files. Nothing is removed: older versions keep the old files. Memory is bounded by the runtime
//! given, where rows are sorted, and by one row group.
//! What it does not: it is in no hurry. Writers of this server are kept from their table only while
//! the commit itself is written.
//! On failure: what was written is removed again, unless it may be part of a version; then it is, or
//! it is an orphan that maintenance finds.
//!
//! # Which files
//! Files are taken smallest first, as many as there are while the largest of them has no more rows
//! than the others together ([`choose`]). So whenever a row is written anew its file at least
//! doubles, which happens log2(n) times at most: n single-row inserts cost O(n log n) in all. Where
//! no such group of four is left, each file is larger than all smaller ones together, and there
//! are log2(n) + 3 of them at most.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::expressions::col;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use object_store::ObjectStore;

use super::commit::{Commit, CommitAuthor, is_plain};
use super::files::{FileScan, ScanFile};
use super::snapshot::join;
use super::stage::TARGET_FILE_BYTES;
use super::{Location, Snapshot, Stage, Staged, Tables};
use crate::error::{Error, Kind, Result};
use crate::state::Key;

/// A file of this size is left as it is.
const LARGE_BYTES: u64 = TARGET_FILE_BYTES.get() / 2;
/// So many small files are nothing to do about.
const FILES_MIN: usize = 16;
/// Fewer are not worth a commit.
const GROUP_MIN: usize = 4;
/// Most bytes read by one compaction, so that each comes to an end.
const BYTES_MAX: u64 = 1 << 30;
/// A writer may hold its table for as long as a transaction block is open: that is not waited for.
const LEASE_WAIT: Duration = Duration::from_secs(5);
const BATCH_ROWS: usize = 8192;

/// Which compactions are worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// What is due: nothing while there are few small files.
    Due,
    /// Whatever makes files fewer.
    All,
}

/// How far a piece of work is; read by others while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

/// What is to be compacted, and how.
pub struct Compaction<'a> {
    pub location: &'a Location,
    pub effort: Effort,
    /// Rows are sorted by these columns; where there are none they keep the order they came in.
    pub sort_by: &'a [String],
    /// What the new files are to be searched by.
    pub keys: &'a [Key],
    /// Sorting stays within its memory, and spills to its disk.
    pub runtime: Arc<RuntimeEnv>,
    pub author: CommitAuthor,
    pub progress: &'a Progress,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    pub version: u64,
    pub files_before: usize,
    pub files_after: usize,
    pub rows: u64,
}

/// A live file that could be rewritten.
#[derive(Clone, Debug)]
struct Candidate {
    /// Its place in [`Snapshot::files`].
    index: usize,
    path: String,
    bytes: u64,
    /// `None` where the log does not say it.
    rows: Option<u64>,
    /// When it was written: the order in which rows came.
    modified_ms: i64,
}

impl Progress {
    /// What is done and what there is in all; rows, for a compaction.
    pub fn get(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// There is so much to do.
    pub fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// So much more is done.
    pub fn advance(&self, by: u64) {
        self.done.fetch_add(by, Ordering::Relaxed);
    }
}

impl Tables {
    /// Whether compacting a table is due; never for a layout that cannot be written here.
    pub async fn compaction_is_due(&self, location: &Location) -> Result<bool> {
        let snapshot = self.glance(location).await?;
        let due = !choose(candidates(&snapshot), Effort::Due).is_empty();
        Ok(due && snapshot.refuse_foreign_layout().is_ok())
    }

    /// Rewrites some files of a table in one commit, unless `stop` comes first; `None` where there
    /// is nothing to do, or others were faster.
    ///
    /// # Errors
    /// `0A000` for a table whose rows are not simply those of its files, `53200` for rows that
    /// cannot be sorted in the memory there is, `58030` for the storage's failures.
    pub async fn compact(
        &self,
        compaction: &Compaction<'_>,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Compacted>> {
        let Compaction { location, progress, .. } = compaction;
        let snapshot = self.glance(location).await?;
        snapshot.refuse_foreign_layout()?;
        let chosen = choose(candidates(&snapshot), compaction.effort);
        if chosen.is_empty() {
            return Ok(None);
        }
        let expected = chosen.iter().map(|file| file.rows).sum::<Option<u64>>();
        progress.expect(expected.unwrap_or_default());
        let mut stage = self.stage(location, &snapshot.columns()?, compaction.keys);
        stage.after = snapshot.version();
        let mut stop = pin!(stop);
        let written = tokio::select! {
            biased;
            () = &mut stop => Ok(false),
            written = write(&mut stage, &snapshot, &chosen, compaction) => written.map(|()| true),
        };
        if !matches!(written, Ok(true)) {
            stage.abort().await;
            return written.map(|_| None);
        }
        let staged = stage.finish().await?;
        if expected.is_some_and(|expected| expected != staged.rows) {
            let message = format!("{expected:?} rows were to be rewritten, and {}", staged.rows);
            staged.discard().await;
            return Err(Error::new(Kind::DataCorrupted, message)
                .with_detail(format!("The table is {location}.")));
        }
        self.replace(&snapshot, &chosen, staged, compaction, stop).await
    }

    /// Commits, or gives up.
    async fn replace(
        &self,
        snapshot: &Snapshot,
        chosen: &[Candidate],
        staged: Staged,
        compaction: &Compaction<'_>,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Compacted>> {
        let lease = tokio::select! {
            biased;
            () = stop => None,
            lease = tokio::time::timeout(LEASE_WAIT, self.lease(compaction.location)) => lease.ok(),
        };
        let Some(lease) = lease else {
            staged.discard().await;
            return Ok(None);
        };
        let indexes: Vec<usize> = chosen.iter().map(|file| file.index).collect();
        let (rows, files_after) = (staged.rows, staged.file_count());
        let files = staged.files();
        let commit = Commit::rewrite(snapshot, &indexes, staged, compaction.author.clone())?;
        let committed = self.commit(snapshot, commit).await;
        drop(lease);
        match committed {
            Ok(version) => {
                let files_before = chosen.len();
                Ok(Some(Compacted { version, files_before, files_after, rows }))
            }
            // Only this answer means that no version names the files.
            Err(error) if error.kind() == Kind::SerializationFailure => {
                files.discard().await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

async fn write(
    stage: &mut Stage,
    snapshot: &Snapshot,
    chosen: &[Candidate],
    compaction: &Compaction<'_>,
) -> Result<()> {
    let folder = snapshot.location().path();
    let files = (chosen.iter().enumerate())
        .map(|(index, file)| ScanFile {
            path: join(&folder, &file.path),
            size_bytes: file.bytes,
            index: index as u64,
            constants: HashMap::new(),
        })
        .collect();
    let store = snapshot.log_store().root_object_store(None);
    let Compaction { sort_by, runtime, progress, .. } = compaction;
    let rows = rows(store, snapshot.schema(), files, sort_by, runtime).await?;
    write_rows(stage, rows, |rows| progress.advance(rows)).await
}

/// Writes rows of a table's files into others.
pub(super) async fn write_rows(
    stage: &mut Stage,
    mut rows: SendableRecordBatchStream,
    written: impl Fn(u64),
) -> Result<()> {
    let schema = stage.schema().clone();
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(failed)?;
        stage.write(&recast(&batch, &schema)?).await?;
        written(batch.num_rows() as u64);
        // Writing a batch may never wait; whatever else this thread serves should not either.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// The rows of files of a table with this schema, by these columns or else in their order.
pub(super) async fn rows(
    store: Arc<dyn ObjectStore>,
    schema: SchemaRef,
    files: Vec<ScanFile>,
    sort_by: &[String],
    runtime: &Arc<RuntimeEnv>,
) -> Result<SendableRecordBatchStream> {
    let scan = FileScan::new(store, schema, files);
    let session = session(runtime);
    let plan = scan.scan(&session, None, &[], None).await.map_err(failed)?;
    execute_stream(sorted(plan, sort_by)?, session.task_ctx()).map_err(failed)
}

/// One partition, so that rows keep their order.
fn session(runtime: &Arc<RuntimeEnv>) -> SessionState {
    let config = SessionConfig::new().with_target_partitions(1).with_batch_size(BATCH_ROWS);
    SessionStateBuilder::new().with_config(config).with_runtime_env(Arc::clone(runtime)).build()
}

fn sorted(plan: Arc<dyn ExecutionPlan>, by: &[String]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let columns = by.iter().map(|name| col(name, &schema).map(PhysicalSortExpr::new_default));
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    Ok(match LexOrdering::new(columns) {
        Some(order) => Arc::new(SortExec::new(order, plan)),
        None => plan,
    })
}

fn recast(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = (schema.fields().iter().zip(batch.columns()))
        .map(|(field, column)| cast(column, field.data_type()))
        .collect::<Result<Vec<_>, _>>();
    columns.and_then(|columns| RecordBatch::try_new(schema.clone(), columns)).map_err(|error| {
        Error::internal("a stored row does not have the table's shape").with_source(error)
    })
}

/// The live files that are small, oldest first.
fn candidates(snapshot: &Snapshot) -> Vec<Candidate> {
    let modified: HashMap<String, i64> = (snapshot.eager().log_data().iter())
        .map(|file| (file.path().into_owned(), file.modification_time()))
        .collect();
    let mut found: Vec<Candidate> = (snapshot.files().into_iter().enumerate())
        .filter(|(_, file)| file.size_bytes < LARGE_BYTES && is_plain(&file.path))
        .map(|(index, file)| Candidate {
            index,
            modified_ms: modified.get(&file.path).copied().unwrap_or_default(),
            path: file.path,
            bytes: file.size_bytes,
            rows: file.records,
        })
        .collect();
    found.sort_by_key(|file| file.modified_ms);
    found
}

/// The files to rewrite together, in the order given; none where it is not worth it.
fn choose(files: Vec<Candidate>, effort: Effort) -> Vec<Candidate> {
    let (files_min, group_min) = match effort {
        Effort::Due => (FILES_MIN, GROUP_MIN),
        Effort::All => (2, 2),
    };
    if files.len() < files_min {
        return Vec::new();
    }
    // A file that does not say how many rows it has is rewritten once, and then does.
    let weight = |file: &Candidate| file.rows.unwrap_or(1).max(1);
    let mut by_size: Vec<(usize, &Candidate)> = files.iter().enumerate().collect();
    by_size.sort_by_key(|(_, file)| weight(file));
    let (mut rows, mut bytes, mut group) = (0_u64, 0_u64, 0);
    for (count, (_, file)) in by_size.iter().enumerate() {
        bytes = bytes.saturating_add(file.bytes);
        if bytes > BYTES_MAX {
            break;
        }
        if effort == Effort::All || weight(file) <= rows {
            group = count + 1;
        }
        rows = rows.saturating_add(weight(file));
    }
    if group < group_min {
        return Vec::new();
    }
    let mut taken: Vec<usize> = by_size.into_iter().take(group).map(|(place, _)| place).collect();
    taken.sort_unstable();
    taken.into_iter().filter_map(|place| files.get(place).cloned()).collect()
}

fn failed(error: datafusion::error::DataFusionError) -> Error {
    use datafusion::error::DataFusionError as Engine;
    match error.find_root() {
        Engine::ResourcesExhausted(_) => {
            Error::new(Kind::OutOfMemory, "a table's rows could not be sorted in the memory given")
                .with_source(error)
        }
        _ => Error::new(Kind::Io, "a table's files could not be read").with_source(error),
    }
}
