//! What a transaction has written to one table and nobody else sees: a private branch of its log.
//!
//! What it is: each statement of the transaction adds a commit to the branch, which lies in memory
//! in front of the table's log; its files are in the table's folder, named by no version, the small
//! ones held in memory. So the transaction reads its own writes as it reads any version: by a
//! [`Snapshot`], which is brought up to date when somebody reads.
//! What it guarantees: nothing of a branch is in the table's log before [`Branch::squash`] made one
//! commit of it, [`Branch::persist`] made its files durable, and it was committed; the commit holds
//! what is left of all steps.
//! What it does not: it looks at no other writer; the one commit does, against the base.
//! On failure: a branch that is dropped leaves orphans; [`Branch::discard`] removes them.

mod gather;
mod head;
mod overlay;
mod squash;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use deltalake_core::kernel::{Action, Add};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use self::head::Brings;
pub use self::head::Head;
use self::overlay::Overlay;
pub use self::squash::Changes;
use super::commit::{Commit, render};
use super::{Snapshot, Tables};
use crate::environment::Hold;
use crate::error::{Error, Kind, Result};

/// Each statement that writes has a place in memory.
const STEPS_MAX: usize = 100_000;

/// A table as one transaction has changed it so far.
pub struct Branch {
    tables: Tables,
    base: Snapshot,
    /// The base, its log read through the branch.
    start: Snapshot,
    head: Arc<Head>,
    log: Arc<InMemory>,
    hold: Arc<Hold>,
    steps: Vec<Step>,
    /// Small files of new rows, which are to be put together.
    small: Vec<Add>,
}

/// What one statement did.
struct Step {
    commit: Commit,
    /// Files that were put together behind it.
    gathered: Vec<Commit>,
    /// The branch's version with all this.
    version: u64,
}

impl Tables {
    /// Begins a branch behind `base`.
    pub fn branch(&self, base: Snapshot) -> Result<Branch> {
        let log = Arc::new(InMemory::new());
        let folder = log_folder(&base);
        let overlay: Arc<dyn ObjectStore> = Arc::new(Overlay {
            below: self.environment().store().clone(),
            log: Arc::clone(&log),
            last_below: entry_path(&base, base.version()),
            folder,
        });
        let start = base.clone().on_branch(self.log_store_over(base.location(), overlay)?);
        let head = Arc::new(Head::new(start.clone(), start.version()));
        let (tables, hold) = (self.clone(), self.environment().hold());
        let (steps, small) = (Vec::new(), Vec::new());
        Ok(Branch { tables, base, start, head, log, hold, steps, small })
    }
}

impl Branch {
    /// The table as the transaction sees it.
    pub fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// The version of the table that the branch begins behind.
    pub fn base(&self) -> &Snapshot {
        &self.base
    }

    /// Where the transaction's next files of this table go.
    pub fn place(&self) -> Place {
        Place { hold: Arc::clone(&self.hold) }
    }

    /// Adds what one statement did. `keys` are those of its rows, where it did nothing but add rows
    /// whose keys are at hand.
    ///
    /// # Errors
    /// `54000` beyond [`STEPS_MAX`] statements.
    pub async fn add(&mut self, commit: Commit, keys: Option<&[RecordBatch]>) -> Result<()> {
        if self.steps.len() >= STEPS_MAX {
            let message = "a transaction has too many statements that write";
            return Err(Error::new(Kind::ProgramLimitExceeded, message)
                .with_detail(format!("It may have {STEPS_MAX}."))
                .with_hint("Write more rows with each, or use COPY."));
        }
        let version = self.write_entry(&commit, Brings::Rows(keys)).await?;
        gather::note(&mut self.small, &commit);
        self.steps.push(Step { commit, gathered: Vec::new(), version });
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
        let undone = self.steps.split_off(steps.min(self.steps.len()));
        let version = self.steps.last().map_or(self.base.version(), |step| step.version);
        for entry in version + 1..=self.head.version() {
            self.log.delete(&entry_path(&self.base, entry)).await?;
        }
        self.head = Arc::new(Head::new(self.start.clone(), version));
        self.small.clear();
        for commit in self.steps.iter().flat_map(Step::commits) {
            gather::note(&mut self.small, commit);
        }
        let written = written(undone.iter().flat_map(Step::commits));
        let kept = written_of(&self.steps);
        self.remove_files(written.into_iter().filter(|path| !kept.contains(path))).await;
        Ok(())
    }

    /// Whether the steps recorded changes in ways that one commit cannot show side by side: then
    /// they must be netted, see [`Branch::changes`]. A commit either records all its changes, or
    /// has them told from its files.
    pub fn must_net_changes(&self) -> bool {
        let records = |it: &Step| it.commit.actions.iter().any(|it| matches!(it, Action::Cdc(_)));
        self.steps.len() > 1 && self.steps.iter().any(records)
    }

    /// Every change of every step, with [`super::CHANGE_TYPE`].
    pub async fn changes(&self) -> Result<Arc<dyn TableProvider>> {
        let head = self.head.snapshot().await?;
        super::changes::between(&self.base, &head, self.base.version() + 1).await
    }

    /// Makes the files that `commit` names durable.
    pub async fn persist(&self, commit: &Commit) -> Result<()> {
        let folder = self.base.location().path();
        for path in commit.files() {
            self.hold.persist(&super::snapshot::join(&folder, &path)).await?;
        }
        Ok(())
    }

    /// Removes the files that the steps wrote and that are not among `named`, as far as the storage
    /// lets us.
    pub async fn discard(self, named: &HashSet<String>) {
        let written = written_of(&self.steps);
        self.remove_files(written.into_iter().filter(|path| !named.contains(path))).await;
    }

    /// Puts an entry behind the branch's log. Where it changes the table's shape, the head is read
    /// at once: what comes next goes by it.
    async fn write_entry(&mut self, commit: &Commit, brings: Brings<'_>) -> Result<u64> {
        let version = self.head.version() + 1;
        let environment = self.tables.environment();
        let entry = render(commit, &environment.new_id(), environment.now_ms())?;
        self.log.put(&entry_path(&self.base, version), entry.into()).await?;
        let head = self.head.next(version, brings);
        let shapes = |it: &Action| matches!(it, Action::Metadata(_) | Action::Protocol(_));
        if commit.actions.iter().any(shapes) {
            head.snapshot().await?;
        }
        self.head = Arc::new(head);
        Ok(version)
    }

    async fn remove_files(&self, paths: impl IntoIterator<Item = String>) {
        let folder = self.base.location().path();
        for path in paths {
            let path = super::snapshot::join(&folder, &path);
            if let Err(error) = self.hold.delete(&path).await {
                tracing::warn!(%error, "a file of a transaction that is not needed stays");
            }
        }
    }
}

/// Where the files of one transaction's statements go: small ones into memory, until it commits.
#[derive(Clone)]
pub struct Place {
    hold: Arc<Hold>,
}

impl Place {
    pub(super) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.hold) as _
    }
}

impl Step {
    fn commits(&self) -> impl Iterator<Item = &Commit> {
        std::iter::once(&self.commit).chain(&self.gathered)
    }
}

/// The files that commits brought, as their actions name them. What a restore names are the files
/// of old versions.
fn written<'a>(commits: impl IntoIterator<Item = &'a Commit>) -> HashSet<String> {
    let commits = commits.into_iter().filter(|commit| commit.operation != "RESTORE");
    commits.flat_map(Commit::files).collect()
}

fn written_of(steps: &[Step]) -> HashSet<String> {
    written(steps.iter().flat_map(Step::commits))
}

fn log_folder(of: &Snapshot) -> Path {
    of.location().path().join("_delta_log")
}

fn entry_path(of: &Snapshot, version: u64) -> Path {
    log_folder(of).join(format!("{version:020}.json"))
}
