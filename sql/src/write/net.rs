//! What several statements of one transaction changed, all in all.
//!
//! # Why
//! One commit is one set of changes: a row that came and went again, or was changed twice, is to
//! be seen as what it was before and what it is after. Rows are told apart by their values, so an
//! update shows as a delete and an insert.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::functions_aggregate::sum::sum;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, case, col, ident, lit};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use kho_catalog::error::{Error, Result};
use kho_catalog::table::{Branch, CHANGE_TYPE, Stage, Staged, TableColumn};

use crate::engine::Shared;
use crate::errors::{from_arrow, from_engine};
use crate::memory::task_context;

/// How often a row came, less how often it went.
const NET: &str = "\u{1}net";
/// Equal rows may be many: they are written so many at a time.
const PIECE_ROWS: usize = 8192;

/// The changes of all steps of `branch`, netted, as records for the change feed.
pub(crate) async fn net_changes(shared: &Shared, branch: &Branch) -> Result<Staged> {
    let columns = branch.head().shape().columns()?;
    let mut stage = shared.tables.stage(branch.base().location(), &columns, &[]);
    match record(shared.plain_session(), branch, &columns, &mut stage).await {
        Ok(()) => stage.finish().await,
        Err(error) => {
            stage.abort().await;
            Err(error)
        }
    }
}

async fn record(
    session: SessionState,
    branch: &Branch,
    columns: &[TableColumn],
    stage: &mut Stage,
) -> Result<()> {
    let source = provider_as_source(branch.changes().await?);
    let plan = LogicalPlanBuilder::scan("changes", source, None).and_then(|it| it.build());
    let came = case(col(CHANGE_TYPE))
        .when(lit("insert"), lit(1_i64))
        .when(lit("update_postimage"), lit(1_i64))
        .otherwise(lit(-1_i64))
        .map_err(from_engine)?;
    let group: Vec<Expr> = columns.iter().map(|column| ident(&column.name)).collect();
    let context = task_context(&session);
    let netted = DataFrame::new(session, plan.map_err(from_engine)?)
        .aggregate(group, vec![sum(came).alias(NET)])
        .and_then(|rows| rows.filter(ident(NET).not_eq(lit(0_i64))))
        .map_err(from_engine)?;
    let physical = netted.create_physical_plan().await.map_err(from_engine)?;
    let mut rows = execute_stream(physical, context).map_err(from_engine)?;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(from_engine)?;
        for (rows, labels) in pieces(&batch)? {
            stage.write_changes(&labelled(&batch, rows, labels, stage)?).await?;
        }
    }
    Ok(())
}

/// Which rows, each as often as it is left over, and what happened to them: in pieces.
fn pieces(batch: &RecordBatch) -> Result<impl Iterator<Item = (Vec<u32>, Vec<&'static str>)>> {
    let net = batch.column_by_name(NET).and_then(|it| it.as_primitive_opt::<Int64Type>());
    let net = net.ok_or_else(|| Error::internal("netted changes have no count"))?;
    let counts: Vec<i64> = net.values().to_vec();
    let mut rows = (0_u32..).zip(counts).flat_map(|(row, count)| {
        let label = if count > 0 { "insert" } else { "delete" };
        (0..count.unsigned_abs()).map(move |_| (row, label))
    });
    Ok(std::iter::from_fn(move || {
        let piece: (Vec<u32>, Vec<&str>) = rows.by_ref().take(PIECE_ROWS).unzip();
        (!piece.0.is_empty()).then_some(piece)
    }))
}

fn labelled(
    batch: &RecordBatch,
    rows: Vec<u32>,
    labels: Vec<&str>,
    stage: &Stage,
) -> Result<RecordBatch> {
    let width = stage.schema().fields().len();
    let places: Vec<usize> = (0..width).collect();
    let taken =
        batch.project(&places).and_then(|it| take_record_batch(&it, &UInt32Array::from(rows)));
    let taken = taken.map_err(|error| from_arrow(&error))?;
    let mut columns = (stage.schema().fields().iter().zip(taken.columns()))
        .map(|(field, column)| super::conform::cast(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    columns.push(Arc::new(StringArray::from(labels)) as ArrayRef);
    let mut fields = stage.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, true)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|it| from_arrow(&it))
}
