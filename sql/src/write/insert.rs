//! The rows of `INSERT`, of `COPY … FROM` and of `CREATE TABLE AS`, from a plan into files.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use futures::StreamExt;
use kho_catalog::error::Result;
use kho_catalog::state::Relation;
use kho_catalog::table::{Commit, Snapshot, Stage, Staged};
use tokio::sync::OwnedMutexGuard;

use super::conform::Conformer;
use super::{Pending, commit_author, tables};
use crate::authorize::{AuthorizedPlan, authorize};
use crate::bind::Bound;
use crate::errors::from_engine;
use crate::execute::{self, Limits};
use crate::outcome::Tag;
use crate::scope::{Scope, location};

/// Rows being added to one table.
pub(crate) struct Append {
    lease: OwnedMutexGuard<()>,
    snapshot: Snapshot,
    conformer: Conformer,
    stage: Stage,
}

impl Append {
    /// Begins to add rows to `relation`; the right to was checked.
    pub(crate) async fn begin(
        scope: &Scope,
        session: &SessionState,
        relation: &Relation,
    ) -> Result<Append> {
        let location = location(relation)?;
        let lease = scope.lease(&location).await?;
        let snapshot = tables(scope).latest(&location).await?;
        let stage = tables(scope).stage(&location, &snapshot.columns()?);
        let conformer = Conformer::new(session, relation, stage.schema())?;
        Ok(Append { lease, snapshot, conformer, stage })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.conformer.schema()
    }

    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = self.conformer.conform(batch)?;
        self.stage.write(&batch).await
    }

    /// Closes the files; what is left is the commit.
    pub(crate) async fn finish(self, scope: &Scope, command: &str) -> Result<Pending> {
        let staged = self.stage.finish().await?;
        let tag = Tag::with_rows(command, staged.rows);
        if staged.rows == 0 {
            return Ok(Pending::nothing(tag));
        }
        let commit = Commit::append(&self.snapshot, staged, commit_author(scope));
        Ok(Pending::rows(self.lease, self.snapshot, commit, tag))
    }

    pub(crate) async fn abort(self) {
        self.stage.abort().await;
    }
}

/// Runs an `INSERT` up to its commit.
pub(crate) async fn insert(
    scope: &Scope,
    relation: &Relation,
    bound: Bound,
    limits: &Limits,
) -> Result<Pending> {
    let plan = authorize(scope, bound)?;
    let append = limits.run(Append::begin(scope, plan.session(), relation)).await?;
    fill(append, scope, &plan, limits, "INSERT").await
}

async fn fill(
    mut append: Append,
    scope: &Scope,
    plan: &AuthorizedPlan,
    limits: &Limits,
    command: &str,
) -> Result<Pending> {
    let filled = limits
        .run(async {
            let mut rows = execute::stream(plan).await?;
            while let Some(batch) = rows.next().await {
                append.write(&batch.map_err(from_engine)?).await?;
            }
            Ok(())
        })
        .await;
    match filled {
        Ok(()) => append.finish(scope, command).await,
        Err(error) => {
            append.abort().await;
            Err(error)
        }
    }
}

/// Stages the rows of `plan` for a table that does not exist yet.
pub(crate) async fn stage_new(
    plan: &AuthorizedPlan,
    conformer: &Conformer,
    mut stage: Stage,
    limits: &Limits,
) -> Result<Staged> {
    let staged = limits
        .run(async {
            let mut rows = execute::stream(plan).await?;
            while let Some(batch) = rows.next().await {
                let batch = conformer.conform(&batch.map_err(from_engine)?)?;
                stage.write(&batch).await?;
            }
            Ok(())
        })
        .await;
    match staged {
        Ok(()) => stage.finish().await,
        Err(error) => {
            stage.abort().await;
            Err(error)
        }
    }
}
