//! The keys of many rows, by the engine's aggregates and joins: what does not fit in memory is
//! spilled.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::{Column as PlanColumn, JoinType};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::physical_plan::execute_stream;
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use kho_catalog::error::{Kind, Result};

use super::Checked;
use crate::errors::from_engine;
use crate::memory::task_context;

const NEW: &str = "new";
const OTHERS: &str = "others";
const COUNT: &str = "\u{1}rows";

impl Checked<'_> {
    /// That no two of `rows` share the key.
    pub(super) async fn duplicates(&self, rows: &Arc<dyn TableProvider>) -> Result<()> {
        let columns = self.columns_of(NEW);
        let plan = self
            .keys_of(NEW, rows, Vec::new())
            .and_then(|keys| {
                keys.aggregate(columns.clone(), vec![count(lit(1_i64)).alias(COUNT)])?
                    .filter(Expr::Column(PlanColumn::from_name(COUNT)).gt(lit(1_i64)))?
                    .project(columns)?
                    .limit(0, Some(1))?
                    .build()
            })
            .map_err(from_engine)?;
        self.refuse_any(first(self.session, &plan).await?)
    }

    /// That none of `rows` shares the key with one of `others`.
    pub(super) async fn shared(
        &self,
        rows: &Arc<dyn TableProvider>,
        others: &Arc<dyn TableProvider>,
    ) -> Result<()> {
        let Some(range) = self.range(rows).await? else { return Ok(()) };
        let on = || (self.plan_columns(NEW), self.plan_columns(OTHERS));
        let plan = self
            .keys_of(OTHERS, others, range)
            .and_then(LogicalPlanBuilder::build)
            .and_then(|others| {
                self.keys_of(NEW, rows, Vec::new())?
                    .join(others, JoinType::LeftSemi, on(), None)?
                    .limit(0, Some(1))?
                    .build()
            })
            .map_err(from_engine)?;
        let found = match first(self.session, &plan).await {
            Err(error) if error.kind() == Kind::OutOfMemory => {
                first(&sorting(self.session), &plan).await?
            }
            found => found?,
        };
        self.refuse_any(found)
    }

    /// The condition that a row's key is within the range of those of `rows`; `None` where no row
    /// has a key.
    async fn range(&self, rows: &Arc<dyn TableProvider>) -> Result<Option<Vec<Expr>>> {
        let ends = self.columns_of(NEW).into_iter().enumerate().flat_map(|(place, column)| {
            [min(column.clone()).alias(end(place, 0)), max(column).alias(end(place, 1))]
        });
        let plan = self
            .keys_of(NEW, rows, Vec::new())
            .and_then(|keys| keys.aggregate(Vec::<Expr>::new(), ends.collect::<Vec<_>>())?.build())
            .map_err(from_engine)?;
        let Some(ends) = first(self.session, &plan).await? else { return Ok(None) };
        let mut range = Vec::new();
        for (place, column) in self.columns_of(OTHERS).into_iter().enumerate() {
            let value = |which: usize| -> Result<Option<ScalarValue>> {
                let Some(values) = ends.column_by_name(&end(place, which)) else { return Ok(None) };
                let value = ScalarValue::try_from_array(values, 0).map_err(from_engine)?;
                Ok((!value.is_null()).then_some(value))
            };
            let (Some(least), Some(greatest)) = (value(0)?, value(1)?) else { return Ok(None) };
            range.push(column.clone().gt_eq(lit(least)));
            range.push(column.lt_eq(lit(greatest)));
        }
        Ok(Some(range))
    }

    /// The keys without NULL of those `rows` for which `filters` are true.
    fn keys_of(
        &self,
        name: &str,
        rows: &Arc<dyn TableProvider>,
        filters: Vec<Expr>,
    ) -> datafusion::common::Result<LogicalPlanBuilder> {
        let columns = self.columns_of(name);
        let source = provider_as_source(Arc::clone(rows));
        let scan = LogicalPlanBuilder::scan(name, source, None)?;
        let present = columns.iter().cloned().map(Expr::is_not_null);
        let scan = present.chain(filters).try_fold(scan, LogicalPlanBuilder::filter)?;
        scan.project(columns)
    }

    fn columns_of(&self, name: &str) -> Vec<Expr> {
        self.plan_columns(name).into_iter().map(Expr::Column).collect()
    }

    fn plan_columns(&self, name: &str) -> Vec<PlanColumn> {
        self.names().into_iter().map(|column| PlanColumn::new(Some(name), column)).collect()
    }

    fn refuse_any(&self, found: Option<RecordBatch>) -> Result<()> {
        match found {
            Some(keys) => Err(self.violation(&keys, 0)?),
            None => Ok(()),
        }
    }
}

/// The name of the least (`0`) or greatest (`1`) value of the key's column at `place`.
fn end(place: usize, which: usize) -> String {
    format!("\u{1}{place}.{which}")
}

/// The first batch of rows, if there is a row.
async fn first(session: &SessionState, plan: &LogicalPlan) -> Result<Option<RecordBatch>> {
    let physical = session.create_physical_plan(plan).await.map_err(from_engine)?;
    let mut rows = execute_stream(physical, task_context(session)).map_err(from_engine)?;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(from_engine)?;
        if batch.num_rows() > 0 {
            return Ok(Some(batch.slice(0, 1)));
        }
    }
    Ok(None)
}

/// The session with joins that sort, and spill, instead of holding one side in memory.
fn sorting(session: &SessionState) -> SessionState {
    let mut config = session.config().clone();
    config.options_mut().optimizer.prefer_hash_join = false;
    SessionStateBuilder::new_from_existing(session.clone()).with_config(config).build()
}
