//! What a server does to its tables while nobody asks: compaction, checkpoints, leftovers.
//!
//! What it guarantees: rows, versions and changes are what they were; each piece of work is a job
//! that `kho.jobs` shows, and holds writers up only while a commit is written. Memory is bounded
//! by its own limit, beside that of the statements.
//! What it does not: it decides no time; the server does. Losing against another server, or against
//! a writer, is no failure: what is still to be done is found again.
//! On failure: the job says so, and the caller gets the error; the tables are as they were.

use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::runtime_env::RuntimeEnv;
use kho_catalog::error::{Kind, Result};
use kho_catalog::freeze;
use kho_catalog::state::{KeyKind, Relation, State};
use kho_catalog::table::{CommitAuthor, Compaction, Effort, Location};
use tokio_util::sync::CancellationToken;

use crate::engine::{Limits, Shared};
use crate::errors::with_setting;
use crate::memory::Memory;
use crate::scope::location;

/// Under whose name the server commits.
pub(crate) const ROLE: &str = "kho_operator";
/// One table is not compacted more often than this before others have their turn.
const TURNS: usize = 8;

/// The maintenance of one warehouse by one server.
pub struct Maintenance {
    shared: Arc<Shared>,
    memory: Memory,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    pub compactions: u64,
    pub rows: u64,
    pub checkpoints: u64,
}

impl Maintenance {
    pub(crate) fn new(shared: Arc<Shared>, limits: &Limits) -> Result<Maintenance> {
        Ok(Maintenance { shared, memory: Memory::for_maintenance(limits)? })
    }

    /// Waits until tables were written through this server, and says which.
    pub async fn written(&self) -> Vec<Location> {
        self.shared.tables.written().await.into_iter().collect()
    }

    /// Every table there is.
    pub async fn tables(&self) -> Result<Vec<Location>> {
        let state = self.shared.catalog.fresh().await?;
        let tables = state.relations.values().filter(|relation| relation.table().is_some());
        tables.map(|relation| location(relation)).collect()
    }

    /// Does what is due for one table, unless `stop` comes first.
    pub async fn tend(&self, table: &Location, stop: &CancellationToken) -> Result<Tended> {
        let mut tended = Tended::default();
        let state = self.shared.catalog.fresh().await?;
        // Dropped since, or not there yet: its transaction may still fail.
        let Some(relation) = relation(&state, table) else { return Ok(tended) };
        // What is frozen stays as it was found.
        if freeze::refuse_frozen_relation(&state, relation.oid).is_err() {
            return Ok(tended);
        }
        let compacted = self.compact_what_is_due(relation, table, stop, &mut tended).await;
        match compacted {
            // Another tool gave it a layout that is read but not written here.
            Err(error) if error.kind() == Kind::FeatureNotSupported => {}
            other => other?,
        }
        if !stop.is_cancelled() && self.shared.tables.checkpoint_is_due(table).await? {
            let job = self.shared.jobs.begin(
                self.shared.catalog.environment(),
                "checkpoint",
                Some(relation.oid),
            );
            match self.shared.tables.checkpoint(table).await {
                Ok(Some(_)) => {
                    tended.checkpoints += 1;
                    job.succeed();
                }
                Ok(None) => job.give_up(),
                Err(error) => {
                    job.fail(&error);
                    return Err(error);
                }
            }
        }
        Ok(tended)
    }

    /// Removes what crashed writes left at least `older_than` ago; says how many files that were.
    pub async fn sweep(&self, older_than: Duration, stop: &CancellationToken) -> Result<usize> {
        let environment = self.shared.catalog.environment();
        let job = self.shared.jobs.begin(environment, "sweep", None);
        let author = CommitAuthor { role: ROLE.to_owned(), statement: job.id().to_owned() };
        let swept = async {
            let mut removed = environment.sweep_leftovers(older_than).await?;
            let named = self.shared.catalog.named().await?;
            removed += self.shared.catalog.sweep_bodies(&named, older_than).await?;
            removed += self.shared.tables.sweep_folders(&named.datasets, older_than).await?;
            removed += self.shared.tables.sweep_order().await?;
            let tables = self.tables().await?;
            job.progress().expect(tables.len() as u64);
            for table in tables {
                removed +=
                    self.shared.tables.sweep_table(&table, older_than, author.clone()).await?;
                job.progress().advance(1);
            }
            Ok(removed)
        };
        let Some(swept) = stop.run_until_cancelled(swept).await else { return Ok(0) };
        match &swept {
            Ok(_) => job.succeed(),
            Err(error) => job.fail(error),
        }
        swept
    }

    async fn compact_what_is_due(
        &self,
        relation: &Relation,
        table: &Location,
        stop: &CancellationToken,
        tended: &mut Tended,
    ) -> Result<()> {
        for _ in 0..TURNS {
            if stop.is_cancelled() || !self.shared.tables.compaction_is_due(table).await? {
                return Ok(());
            }
            let runtime = self.memory.statement();
            let compacted =
                compact(&self.shared, relation, Effort::Due, ROLE, runtime, stop).await?;
            let Some(rows) = compacted else { return Ok(()) };
            tended.compactions += 1;
            tended.rows += rows;
        }
        Ok(())
    }
}

/// Compacts a table once, as a job; gives the number of rows, or `None` where nothing came of it.
pub(crate) async fn compact(
    shared: &Shared,
    relation: &Relation,
    effort: Effort,
    role: &str,
    runtime: Arc<RuntimeEnv>,
    stop: &CancellationToken,
) -> Result<Option<u64>> {
    let job = shared.jobs.begin(shared.catalog.environment(), "compaction", Some(relation.oid));
    let (location, sort_by) = (location(relation)?, sort_columns(relation));
    let keys = relation.searched();
    let compaction = Compaction {
        location: &location,
        effort,
        sort_by: &sort_by,
        keys: &keys,
        runtime,
        author: CommitAuthor { role: role.to_owned(), statement: job.id().to_owned() },
        progress: &Arc::clone(job.progress()),
    };
    match shared.tables.compact(&compaction, stop.cancelled()).await {
        Ok(Some(done)) => {
            tracing::info!(
                table = %location, version = done.version, rows = done.rows,
                before = done.files_before, after = done.files_after, "compacted"
            );
            job.succeed();
            Ok(Some(done.rows))
        }
        Ok(None) => {
            job.give_up();
            Ok(None)
        }
        Err(error) => {
            let error = with_setting(error);
            job.fail(&error);
            Err(error)
        }
    }
}

/// The columns that a compaction sorts by: the primary key's, so that a look-up passes over most
/// files and pages. Without one rows keep their order.
fn sort_columns(relation: &Relation) -> Vec<String> {
    let primary = relation.keys().iter().find(|key| key.kind == KeyKind::Primary);
    let columns = primary.into_iter().flat_map(|key| relation.key_columns(key));
    columns.map(|column| column.name.clone()).collect()
}

fn relation<'a>(state: &'a State, table: &Location) -> Option<&'a Relation> {
    let is = |relation: &&Arc<Relation>| {
        relation
            .table()
            .is_some_and(|it| it.dataset == table.dataset && it.generation == table.generation)
    };
    state.relations.values().find(is).map(AsRef::as_ref)
}
