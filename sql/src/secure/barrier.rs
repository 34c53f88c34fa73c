//! The node of a plan behind which a role's view of a table is computed.
//!
//! What it guarantees: to the engine it is a leaf. No rule sees what is below or asks it for
//! statistics, and only what [`dynamic`] says is pushed there; it always has the same number of
//! partitions, whatever files there are. `EXPLAIN` shows the table, the columns, and the user's own
//! predicates that were let in; its one metric is the number of rows that came out.
//! On failure: a message of the engine can quote a hidden value, so whatever fails below is told
//! with a fixed message; only what concerns resources and storage is told as it is.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, reset_plan_states};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties,
};
use futures::StreamExt;
use kho_catalog::error::{Error, Kind};

use super::dynamic;
use crate::errors::{from_engine, to_engine};

/// The name of the node in a plan.
pub(super) const NAME: &str = "SecuredScan";

/// What a [`Barrier`] shows and lets in.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub table: String,
    /// Predicates of the statement that were let in, as text.
    pub filters: Vec<String>,
    /// Of the batches that come out.
    pub schema: SchemaRef,
    pub partitions: usize,
    /// Whether anything may be told of how much there is.
    pub estimates: bool,
    /// Whether what joins and sorts find while they run may get in.
    pub lets_in_dynamic: bool,
}

/// What is shown of a table, as a leaf.
#[derive(Debug, Clone)]
pub(super) struct Barrier {
    shown: Shown,
    /// Without what was let in while the plan was optimized.
    bare: Arc<dyn ExecutionPlan>,
    inner: Arc<dyn ExecutionPlan>,
    /// What was let in: it is applied to what comes out, too.
    dynamic: Vec<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
    /// Never taken for exact: the engine would answer a count from it.
    estimate: Arc<Statistics>,
    metrics: ExecutionPlanMetricsSet,
}

impl Barrier {
    /// `inner`, as `shown`.
    pub(super) fn new(shown: Shown, inner: Arc<dyn ExecutionPlan>) -> Result<Barrier> {
        let partitions = shown.partitions;
        let inner = match inner.output_partitioning().partition_count() {
            count if count == partitions => inner,
            _ => Arc::new(RepartitionExec::try_new(
                inner,
                Partitioning::RoundRobinBatch(partitions),
            )?),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&shown.schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let estimate = match shown.estimates {
            true => StatisticsContext::new().compute(inner.as_ref(), &StatisticsArgs::new())?,
            false => Arc::new(Statistics::new_unknown(&shown.schema)),
        };
        Ok(Barrier {
            shown,
            bare: Arc::clone(&inner),
            inner,
            dynamic: Vec::new(),
            properties: Arc::new(properties),
            estimate,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for Barrier {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown { table, filters, schema, .. } = &self.shown;
        let columns = schema.fields().iter().map(|field| field.name().as_str());
        let columns = columns.collect::<Vec<_>>().join(", ");
        write!(f, "SecuredScan: table={table}, columns=[{columns}]")?;
        match filters.is_empty() {
            true => Ok(()),
            false => write!(f, ", filters=[{}]", filters.join(", ")),
        }
    }
}

impl ExecutionPlan for Barrier {
    fn name(&self) -> &str {
        NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    /// A recursive query runs its term again and again; what is below is not seen to be reset, and
    /// what was let in belongs to a run that is over.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let inner = reset_plan_states(Arc::clone(&self.bare))?;
        let bare = Arc::clone(&inner);
        Ok(Arc::new(Barrier { bare, inner, dynamic: Vec::new(), ..Arc::unwrap_or_clone(self) }))
    }

    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let refused = vec![PushedDown::No; result.parent_filters.len()];
        let refused = FilterPushdownPropagation::with_parent_pushdown_result(refused);
        if !self.shown.lets_in_dynamic || !matches!(phase, FilterPushdownPhase::Post) {
            return Ok(refused);
        }
        let filters = result.parent_filters.into_iter().map(|parent| parent.filter);
        let mut all = self.dynamic.clone();
        all.extend(filters.filter(dynamic::may_enter));
        if all.len() == self.dynamic.len() {
            return Ok(refused);
        }
        let inner = dynamic::let_in(&self.bare, &all, config)?;
        Ok(refused.with_updated_node(Arc::new(Barrier { inner, dynamic: all, ..self.clone() })))
    }

    /// A join makes its predicate only where somebody says to hold it.
    fn apply_expressions(
        &self,
        apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        dynamic::apply(&self.dynamic, apply)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.inner.execute(partition, context).map_err(without_values)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let schema = Arc::clone(&self.shown.schema);
        let dynamic = self.dynamic.clone();
        let shown = rows.map(move |batch| {
            let batch = batch.and_then(|batch| retyped(batch, &schema));
            let batch = batch.and_then(|batch| dynamic::kept(&dynamic, batch));
            let batch = batch.map_err(without_values)?;
            metrics.output_rows().add(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.shown.schema), shown)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let parts = match args.partition() {
            Some(_) => self.properties.partitioning.partition_count().max(1),
            None => 1,
        };
        let part = |of: &Precision<usize>| {
            of.get_value().map_or(Precision::Absent, |of| Precision::Inexact(of.div_ceil(parts)))
        };
        Ok(Arc::new(Statistics {
            num_rows: part(&self.estimate.num_rows),
            total_byte_size: part(&self.estimate.total_byte_size),
            ..Statistics::new_unknown(&self.shown.schema)
        }))
    }
}

/// The batch with the fields of `schema`, which differ in what is said of them alone.
fn retyped(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
}

fn without_values(error: DataFusionError) -> DataFusionError {
    // Who finds no memory is tried again in another way, and the engine asks for this very error.
    if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) {
        return error;
    }
    let told = from_engine(error);
    let is_safe = matches!(
        told.kind(),
        Kind::Io
            | Kind::DiskFull
            | Kind::DataCorrupted
            | Kind::OutOfMemory
            | Kind::ConfigurationLimitExceeded
            | Kind::QueryCanceled
            | Kind::CannotConnectNow
            | Kind::AdminShutdown
    );
    if is_safe {
        return to_engine(told);
    }
    tracing::warn!(error = %told, source = ?std::error::Error::source(&told), "behind a barrier");
    to_engine(Error::new(told.kind(), "the rows that may be seen could not be computed"))
}
