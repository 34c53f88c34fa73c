//! What a transaction has written to one table and nobody else sees: a private branch of its log.
//!
//! What it is: each statement of the transaction adds a commit to the branch, which lies in memory
//! in front of the table's log; its files are in the table's folder, named by no version. So the
//! transaction reads its own writes as it reads any version: by a [`Snapshot`].
//! What it guarantees: nothing of a branch is in the table's log before [`Branch::squash`] made one
//! commit of it and that was committed; the commit holds what is left of all steps.
//! What it does not: it looks at no other writer; the one commit does, against the base.
//! On failure: a branch that is dropped leaves orphans; [`Branch::discard`] removes them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::TableProvider;
use deltalake_core::kernel::{Action, Add, Remove};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};

use super::commit::{Basis, Commit, Metrics, render};
use super::{Snapshot, Tables};
use crate::error::{Error, Kind, Result};

/// Each statement that writes costs a file and a place in memory.
const STEPS_MAX: usize = 10_000;

/// A table as one transaction has changed it so far.
pub struct Branch {
    tables: Tables,
    base: Snapshot,
    head: Snapshot,
    log: Arc<InMemory>,
    steps: Vec<Commit>,
    /// The table before each step.
    heads: Vec<Snapshot>,
}

impl Tables {
    /// Begins a branch behind `base`.
    pub fn branch(&self, base: Snapshot) -> Result<Branch> {
        let log = Arc::new(InMemory::new());
        let overlay: Arc<dyn ObjectStore> = Arc::new(Overlay {
            below: self.environment().store().clone(),
            log: Arc::clone(&log),
            folder: log_folder(&base),
        });
        let head = base.clone().on_branch(self.log_store_over(base.location(), overlay)?);
        Ok(Branch { tables: self.clone(), base, head, log, steps: Vec::new(), heads: Vec::new() })
    }
}

impl Branch {
    /// The table as the transaction sees it.
    pub fn head(&self) -> &Snapshot {
        &self.head
    }

    /// The version of the table that the branch begins behind.
    pub fn base(&self) -> &Snapshot {
        &self.base
    }

    /// Adds what one statement did.
    ///
    /// # Errors
    /// `54000` beyond [`STEPS_MAX`] statements.
    pub async fn add(&mut self, commit: Commit) -> Result<()> {
        if self.steps.len() >= STEPS_MAX {
            let message = "a transaction has too many statements that write";
            return Err(Error::new(Kind::ProgramLimitExceeded, message)
                .with_detail(format!("It may have {STEPS_MAX}."))
                .with_hint("Write more rows with each, or use COPY."));
        }
        let version = self.head.version() + 1;
        let environment = self.tables.environment();
        let entry = render(&commit, &environment.new_id(), environment.now_ms())?;
        self.log
            .put(&log_folder(&self.base).join(format!("{version:020}.json")), entry.into())
            .await?;
        let head = self.head.clone().refreshed().await?;
        if head.version() != version {
            return Err(Error::internal("a branch did not take its commit"));
        }
        self.heads.push(std::mem::replace(&mut self.head, head));
        self.steps.push(commit);
        Ok(())
    }

    /// How many statements it holds.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Takes back what the statements behind the first `steps` did, and removes their files.
    ///
    /// # Errors
    /// Of the storage; the branch is then not to be used further.
    pub async fn undo(&mut self, steps: usize) -> Result<()> {
        while self.steps.len() > steps {
            let (Some(undone), Some(before)) = (self.steps.pop(), self.heads.pop()) else { break };
            let entry = format!("{:020}.json", self.head.version());
            self.log.delete(&log_folder(&self.base).join(entry)).await?;
            self.head = before;
            self.remove_files(&self.head, &[undone]).await;
        }
        Ok(())
    }

    /// Whether the steps recorded changes in ways that one commit cannot show side by side: then
    /// they must be netted, see [`Branch::changes`]. A commit either records all its changes, or
    /// has them told from its files.
    pub fn must_net_changes(&self) -> bool {
        let records = |step: &Commit| step.actions.iter().any(|it| matches!(it, Action::Cdc(_)));
        self.steps.len() > 1 && self.steps.iter().any(records)
    }

    /// Every change of every step, with [`super::CHANGE_TYPE`].
    pub async fn changes(&self) -> Result<Arc<dyn TableProvider>> {
        super::changes::between(&self.base, &self.head, self.base.version() + 1).await
    }

    /// One commit of all steps. `basis` is what the transaction may assume of the commits of others.
    /// `None` where the steps have left nothing.
    pub fn squash(self, basis: Basis, changes: Changes) -> Result<Option<Commit>> {
        let Branch { base, mut steps, .. } = self;
        let Some(last) = steps.last() else { return Ok(None) };
        let author = last.author.clone();
        if steps.len() == 1 && matches!(changes, Changes::Recorded) {
            return Ok(steps.pop().map(|mut step| {
                step.basis = basis;
                step
            }));
        }
        let same = steps.windows(2).all(|two| matches!(two, [a, b] if a.operation == b.operation));
        let operation = if same { last.operation } else { "TRANSACTION" };
        let mut metrics = Metrics::default();
        // The oldest of its files counts.
        let staged_after = steps.iter().filter_map(|step| step.staged_after).min();
        let mut left = Left::default();
        for step in steps {
            metrics.rows_inserted += step.metrics.rows_inserted;
            metrics.rows_updated += step.metrics.rows_updated;
            metrics.rows_deleted += step.metrics.rows_deleted;
            for action in step.actions {
                match action {
                    Action::Cdc(_) if !matches!(changes, Changes::Recorded) => {}
                    action => left.take(action),
                }
            }
        }
        let netted = match changes {
            Changes::Recorded => Vec::new(),
            Changes::OfFiles => {
                left.set_data_change(true);
                Vec::new()
            }
            Changes::Netted(netted) => {
                let recorded = netted.into_actions();
                // Where all in all no row changed, the files say so.
                if recorded.is_empty() {
                    left.set_data_change(false);
                }
                recorded
            }
        };
        let mut actions = left.into_actions();
        actions.extend(netted);
        if actions.is_empty() {
            return Ok(None);
        }
        let read_version = Some(base.version());
        let commit =
            Commit { operation, basis, read_version, actions, staged_after, author, metrics };
        Ok(Some(commit))
    }

    /// Removes the files that the steps wrote, as far as the storage lets us.
    pub async fn discard(self) {
        self.remove_files(&self.base, &self.steps).await;
    }

    /// Removes what `steps` wrote and `before` does not hold.
    async fn remove_files(&self, before: &Snapshot, steps: &[Commit]) {
        // What a restore names are the files of old versions.
        if steps.iter().any(|step| step.operation == "RESTORE") {
            return;
        }
        let store = self.tables.environment().store();
        let folder = self.base.location().path();
        let live: HashSet<String> = before.files().into_iter().map(|file| file.path).collect();
        for action in steps.iter().flat_map(|step| &step.actions) {
            let path = match action {
                Action::Add(add) if !live.contains(&add.path) => &add.path,
                Action::Cdc(change) => &change.path,
                _ => continue,
            };
            let path = super::snapshot::join(&folder, path);
            if let Err(error) = store.delete(&path).await {
                tracing::warn!(%error, "a file of a transaction that was rolled back stays");
            }
        }
    }
}

/// Where the changes of a transaction's commit are told.
pub enum Changes {
    /// As its steps recorded them, or their files tell: for one step, or steps that only add.
    Recorded,
    /// By its files alone: all rows there are came with them.
    OfFiles,
    /// By these records.
    Netted(super::Staged),
}

/// What several commits leave of each other.
#[derive(Default)]
struct Left {
    protocol: Option<Action>,
    metadata: Option<Action>,
    loads: BTreeMap<String, Action>,
    removes: Vec<Remove>,
    adds: Vec<Add>,
    changes: Vec<Action>,
}

impl Left {
    fn set_data_change(&mut self, data_change: bool) {
        self.adds.iter_mut().for_each(|add| add.data_change = data_change);
        self.removes.iter_mut().for_each(|remove| remove.data_change = data_change);
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Protocol(_) => self.protocol = Some(action),
            Action::Metadata(_) => self.metadata = Some(action),
            Action::Txn(ref load) => drop(self.loads.insert(load.app_id.clone(), action)),
            // What was removed and is to be there again was never gone.
            Action::Add(add) => match self.removes.iter().position(|it| it.path == add.path) {
                Some(place) => drop(self.removes.swap_remove(place)),
                None => self.adds.push(add),
            },
            Action::Remove(remove) => {
                match self.adds.iter().position(|add| add.path == remove.path) {
                    Some(place) => drop(self.adds.remove(place)),
                    None => self.removes.push(remove),
                }
            }
            other => self.changes.push(other),
        }
    }

    fn into_actions(self) -> Vec<Action> {
        let shape = self.protocol.into_iter().chain(self.metadata);
        let rows = self.removes.into_iter().map(Action::Remove);
        let rows = rows.chain(self.adds.into_iter().map(Action::Add));
        shape.chain(self.loads.into_values()).chain(rows).chain(self.changes).collect()
    }
}

fn log_folder(of: &Snapshot) -> Path {
    of.location().path().join("_delta_log")
}

/// The warehouse's store with one table's log continued in memory.
#[derive(Debug)]
struct Overlay {
    below: Arc<dyn ObjectStore>,
    log: Arc<InMemory>,
    folder: Path,
}

impl Overlay {
    fn is_log(&self, location: &Path) -> bool {
        location.prefix_matches(&self.folder)
    }

    async fn holds(&self, location: &Path) -> bool {
        self.is_log(location) && self.log.head(location).await.is_ok()
    }
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Overlay({})", self.below)
    }
}

#[async_trait]
impl ObjectStore for Overlay {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        match self.is_log(location) {
            true => self.log.put_opts(location, payload, options).await,
            false => self.below.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.below.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        match self.holds(location).await {
            true => self.log.get_opts(location, options).await,
            false => self.below.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        match self.holds(location).await {
            true => self.log.get_ranges(location, ranges).await,
            false => self.below.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.below.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        merged(self.below.list(prefix), self.log.list(prefix), self.folder.clone())
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        merged(
            self.below.list_with_offset(prefix, offset),
            self.log.list_with_offset(prefix, offset),
            self.folder.clone(),
        )
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.below.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.below.copy_opts(from, to, options).await
    }
}

/// Both listings in the order of paths. Where the branch goes on, what others commit meanwhile
/// under the same numbers is not seen.
fn merged(
    below: BoxStream<'static, StoreResult<ObjectMeta>>,
    log: BoxStream<'static, StoreResult<ObjectMeta>>,
    folder: Path,
) -> BoxStream<'static, StoreResult<ObjectMeta>> {
    let whole = async move {
        let mut ours: Vec<ObjectMeta> = log.try_collect().await?;
        let first = ours.iter().map(|object| object.location.clone()).min();
        let theirs: Vec<ObjectMeta> = below.try_collect().await?;
        let hidden = |object: &ObjectMeta| {
            let log = object.location.prefix_matches(&folder);
            log && first.as_ref().is_some_and(|first| object.location >= *first)
        };
        ours.extend(theirs.into_iter().filter(|object| !hidden(object)));
        ours.sort_by(|one, other| one.location.cmp(&other.location));
        Ok::<_, object_store::Error>(futures::stream::iter(ours.into_iter().map(Ok)))
    };
    futures::stream::once(whole).try_flatten().boxed()
}
