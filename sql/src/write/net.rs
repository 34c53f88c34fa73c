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
use futures::StreamExt;
use kho_catalog::error::{Error, Result};
use kho_catalog::table::{Branch, CHANGE_TYPE, Stage, Staged, TableColumn};

use crate::engine::Shared;
use crate::errors::{from_arrow, from_engine};

/// How often a row came, less how often it went.
const NET: &str = "\u{1}net";

/// The changes of all steps of `branch`, netted, as records for the change feed.
pub(crate) async fn net_changes(shared: &Shared, branch: &Branch) -> Result<Staged> {
    let columns = branch.head().columns()?;
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
    let netted = DataFrame::new(session, plan.map_err(from_engine)?)
        .aggregate(group, vec![sum(came).alias(NET)])
        .and_then(|rows| rows.filter(ident(NET).not_eq(lit(0_i64))))
        .map_err(from_engine)?;
    let mut rows = netted.execute_stream().await.map_err(from_engine)?;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(from_engine)?;
        stage.write_changes(&labelled(&batch, stage)?).await?;
    }
    Ok(())
}

/// Each row as often as it is left over, with what happened to it.
fn labelled(batch: &RecordBatch, stage: &Stage) -> Result<RecordBatch> {
    let width = stage.schema().fields().len();
    let net = batch.column_by_name(NET).and_then(|it| it.as_primitive_opt::<Int64Type>());
    let net = net.ok_or_else(|| Error::internal("netted changes have no count"))?;
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for (row, count) in (0_u32..).zip(net.values().iter()) {
        for _ in 0..count.unsigned_abs() {
            rows.push(row);
            labels.push(if *count > 0 { "insert" } else { "delete" });
        }
    }
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
