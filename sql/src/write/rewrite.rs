//! All rows of a table written anew for other columns: what dropping, renaming and adding with a
//! value need, since tables have no column mapping.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::execution::SessionState;
use datafusion::physical_plan::execute_stream;
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use kho_catalog::error::{Error, Result};
use kho_catalog::state::{Column, Relation};
use kho_catalog::table::{Commit, Snapshot, Staged, TableColumn};

use super::conform::{Conformer, cast};
use super::{Base, Pending, commit_author, keys, tables};
use crate::errors::{from_arrow, from_engine};
use crate::execute::Limits;
use crate::memory::task_context;
use crate::outcome::Tag;
use crate::scope::{Scope, location};

/// The columns of `relation` as its Delta table states them.
pub(crate) fn table_columns(columns: &[Column]) -> Vec<TableColumn> {
    let column = |column: &Column| TableColumn {
        id: Some(column.id),
        name: column.name.clone(),
        data_type: column.data_type.clone(),
        not_null: column.not_null,
    };
    columns.iter().map(column).collect()
}

/// Gives the table the columns of `after`, by column id. A new column has `fill` in old rows.
/// Without rows to change it is a commit of metadata alone.
pub(crate) async fn reshape(
    scope: &Scope,
    session: &SessionState,
    after: &Relation,
    operation: &'static str,
    fill: Option<ScalarValue>,
    limits: &Limits,
) -> Result<Pending> {
    let scope = &scope.without_load();
    let base = Base::take(scope, after, limits).await?;
    let snapshot = &base.snapshot;
    let columns = table_columns(&after.columns);
    let before = snapshot.columns()?;
    // A column that may be NULL now reads as it did.
    let same = |old: &TableColumn, new: &TableColumn| {
        let relaxed = TableColumn { not_null: new.not_null, ..old.clone() };
        new == old || !new.not_null && *new == relaxed
    };
    let only_metadata = fill.is_none()
        && before.iter().all(|old| columns.iter().any(|new| new.id == old.id && same(old, new)));
    let rows = match only_metadata || snapshot.files().is_empty() {
        true => None,
        false => {
            let work = rewrite(scope, session, after, snapshot, &columns, fill);
            let staged = limits.run(work).await?;
            if let Err(error) = limits.run(new_keys(scope, session, after, &before, &staged)).await
            {
                staged.discard().await;
                return Err(error);
            }
            Some(staged)
        }
    };
    let commit = Commit::reshape(operation, snapshot, &columns, rows, commit_author(scope))?;
    Ok(Pending::rows(scope, base, commit, Tag::new("ALTER TABLE")))
}

/// Checks the keys that a new column is in against the rows that got it.
async fn new_keys(
    scope: &Scope,
    session: &SessionState,
    after: &Relation,
    before: &[TableColumn],
    staged: &Staged,
) -> Result<()> {
    let is_new = |id: &u32| !before.iter().any(|column| column.id == Some(*id));
    let keys = after.keys().iter().filter(|key| key.columns.iter().any(is_new));
    let names: Vec<String> = keys.map(|key| key.name.clone()).collect();
    keys::check_rewritten(&tables(scope), session, after, &names, staged).await
}

/// Reads every row of `snapshot` and says whether the rules of `after` hold for it.
pub(crate) async fn check_rows(
    session: &SessionState,
    after: &Relation,
    snapshot: &Snapshot,
) -> Result<()> {
    let columns = table_columns(&after.columns);
    let fields: Vec<_> = columns.iter().map(TableColumn::to_field).collect();
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let conformer = Conformer::new(session, after, &schema)?;
    let provider = snapshot.positioned(None)?;
    let scan = provider.scan(session, None, &[], None).await.map_err(from_engine)?;
    let mut rows = execute_stream(scan, task_context(session)).map_err(from_engine)?;
    let places: Vec<usize> = (0..columns.len()).collect();
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(from_engine)?;
        let batch = batch.project(&places).map_err(|error| from_arrow(&error))?;
        conformer.conform(&batch)?;
    }
    Ok(())
}

async fn rewrite(
    scope: &Scope,
    session: &SessionState,
    after: &Relation,
    snapshot: &Snapshot,
    columns: &[TableColumn],
    fill: Option<ScalarValue>,
) -> Result<Staged> {
    let before = snapshot.columns()?;
    let mut stage = tables(scope).stage(&location(after)?, columns, &after.searched());
    let conformer = Conformer::new(session, after, stage.schema())?;
    let written = async {
        let provider = snapshot.positioned(None)?;
        let scan = provider.scan(session, None, &[], None).await.map_err(from_engine)?;
        let mut rows = execute_stream(scan, task_context(session)).map_err(from_engine)?;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(from_engine)?;
            let batch = reshaped(&batch, &before, columns, fill.as_ref())?;
            stage.write(&conformer.conform(&batch)?).await?;
        }
        Ok(())
    };
    match written.await {
        Ok(()) => stage.finish().await,
        Err(error) => {
            stage.abort().await;
            Err(error)
        }
    }
}

fn reshaped(
    batch: &RecordBatch,
    before: &[TableColumn],
    columns: &[TableColumn],
    fill: Option<&ScalarValue>,
) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for column in columns {
        let field = column.to_field().with_nullable(true);
        let old = before.iter().position(|old| old.id == column.id);
        let array = match (old.map(|index| batch.columns().get(index)), fill) {
            (Some(Some(array)), _) => cast(array, field.data_type())?,
            (Some(None), _) => return Err(Error::internal("a stored row lacks a column")),
            (None, Some(value)) => value.to_array_of_size(rows).map_err(from_engine)?,
            (None, None) => new_null_array(field.data_type(), rows),
        };
        fields.push(field);
        arrays.push(array);
    }
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    RecordBatch::try_new(schema, arrays).map_err(|error| from_arrow(&error))
}
