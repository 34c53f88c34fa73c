//! Reading a table in the order of a number that each of its files is sorted by.
//!
//! What it is: for tables whose every file is sorted by a group and, within it, by a number, as the
//! sealed ledger's are: the rows of one group, merged from the files that hold any.
//! What it guarantees: files that the log's statistics prove to hold nothing of use are not read;
//! memory is bounded by a batch of each of the others.
//! What it does not: it sorts nothing. Where a file is sorted otherwise (another program has
//! rewritten it), rows come in another order, and whoever reads must look.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::catalog::TableProvider;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, Result as PlanResult};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::lit;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::expressions::col;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;

use super::Snapshot;
use super::files::{FileScan, ScanFile};
use super::snapshot::join;
use crate::error::{Error, Kind, Result};

impl Snapshot {
    /// The rows of the files that may hold rows of `group` (a column of texts, and its value) with
    /// a number (a column of whole numbers, and the least that is wanted) not below it.
    pub async fn in_order(
        &self,
        group: (&str, &str),
        number: (&str, i64),
    ) -> Result<SendableRecordBatchStream> {
        self.refuse_foreign_layout()?;
        let folder = self.location().path();
        let eager = self.eager();
        let texts = |bounds: Option<arrow::array::ArrayRef>| {
            bounds.and_then(|it| cast(&it, &DataType::Utf8).ok())
        };
        let numbers = |bounds: Option<arrow::array::ArrayRef>| {
            bounds.and_then(|it| cast(&it, &DataType::Int64).ok())
        };
        let (group_column, number_column) =
            (Column::from_name(group.0), Column::from_name(number.0));
        let groups_least = texts(eager.min_values(&group_column));
        let groups_greatest = texts(eager.max_values(&group_column));
        let least = numbers(eager.min_values(&number_column));
        let greatest = numbers(eager.max_values(&number_column));
        let text = |of: &Option<arrow::array::ArrayRef>, at: usize| {
            let of = of.as_ref()?.as_string_opt::<i32>()?;
            (at < of.len() && of.is_valid(at)).then(|| of.value(at).to_owned())
        };
        let whole = |of: &Option<arrow::array::ArrayRef>, at: usize| {
            let of = of.as_ref()?.as_primitive_opt::<Int64Type>()?;
            (at < of.len() && of.is_valid(at)).then(|| of.value(at))
        };
        let mut files: Vec<(i64, ScanFile)> = Vec::new();
        for (at, file) in eager.log_data().iter().enumerate() {
            let below = text(&groups_greatest, at).is_some_and(|it| it.as_str() < group.1);
            let above = text(&groups_least, at).is_some_and(|it| it.as_str() > group.1);
            let before = whole(&greatest, at).is_some_and(|it| it < number.1);
            if below || above || before {
                continue;
            }
            let path = join(&folder, file.path().as_ref());
            let size_bytes = u64::try_from(file.size()).unwrap_or_default();
            let (index, constants) = (at as u64, HashMap::new());
            let file = ScanFile { path, size_bytes, index, constants };
            files.push((whole(&least, at).unwrap_or(i64::MIN), file));
        }
        files.sort_by_key(|(least, _)| *least);
        let files: Vec<ScanFile> = files.into_iter().map(|(_, file)| file).collect();
        // A part of its own for each, so that the parts can be merged.
        let config = SessionConfig::new().with_target_partitions(files.len().max(1));
        let scan = FileScan::new(self.log_store().root_object_store(None), self.schema(), files);
        let session = SessionStateBuilder::new().with_config(config).build();
        let merged = merged(&scan, &session, group, number.0).await;
        let unreadable =
            |error| Error::new(Kind::Io, "the table could not be read").with_source(error);
        execute_stream(merged.map_err(unreadable)?, session.task_ctx()).map_err(unreadable)
    }
}

async fn merged(
    scan: &FileScan,
    session: &SessionState,
    (group, value): (&str, &str),
    number: &str,
) -> PlanResult<Arc<dyn ExecutionPlan>> {
    let rows = scan.scan(session, None, &[], None).await?;
    let schema = rows.schema();
    let wanted = datafusion::logical_expr::col(Column::from_name(group)).eq(lit(value));
    let plan_schema = DFSchema::try_from(schema.as_ref().clone())?;
    let wanted = session.create_physical_expr(wanted, &plan_schema)?;
    let rows: Arc<dyn ExecutionPlan> = Arc::new(FilterExec::try_new(wanted, rows)?);
    let order = PhysicalSortExpr::new_default(col(number, &schema)?);
    let Some(order) = LexOrdering::new([order]) else { return Ok(rows) };
    Ok(Arc::new(SortPreservingMergeExec::new(order, rows)))
}
