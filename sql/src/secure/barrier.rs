//! The node of a plan behind which a role's view of a table is computed.
//!
//! What it guarantees: to the engine it is a leaf. No rule sees what is below, pushes anything
//! there or asks it for statistics; it always has the same number of partitions, whatever files
//! there are. `EXPLAIN` shows the table, the columns, and the user's own predicates that were let
//! in; its one metric is the number of rows that came out.
//! On failure: a message of the engine can quote a hidden value, so whatever fails below is told
//! with a fixed message; only what concerns resources and storage is told as it is.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, reset_plan_states};
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

use crate::errors::{from_engine, to_engine};

/// The name of the node in a plan.
pub(super) const NAME: &str = "SecuredScan";

/// What is shown of a table, as a leaf.
#[derive(Debug)]
pub(super) struct Barrier {
    table: String,
    /// Predicates of the statement that were let in, as text.
    filters: Vec<String>,
    schema: SchemaRef,
    inner: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    /// Never taken for exact: the engine would answer a count from it.
    estimate: Arc<Statistics>,
    metrics: ExecutionPlanMetricsSet,
}

impl Barrier {
    /// `inner`, whose batches are given with `schema`, in `partitions` parts.
    pub(super) fn new(
        table: String,
        filters: Vec<String>,
        schema: SchemaRef,
        inner: Arc<dyn ExecutionPlan>,
        partitions: usize,
        estimates: bool,
    ) -> Result<Barrier> {
        let inner = match inner.output_partitioning().partition_count() {
            count if count == partitions => inner,
            _ => Arc::new(RepartitionExec::try_new(
                inner,
                Partitioning::RoundRobinBatch(partitions),
            )?),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let estimate = match estimates {
            true => StatisticsContext::new().compute(inner.as_ref(), &StatisticsArgs::new())?,
            false => Arc::new(Statistics::new_unknown(&schema)),
        };
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Ok(Barrier { table, filters, schema, inner, properties, estimate, metrics })
    }
}

impl DisplayAs for Barrier {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.schema.fields().iter().map(|field| field.name().as_str());
        let columns = columns.collect::<Vec<_>>().join(", ");
        write!(f, "SecuredScan: table={}, columns=[{columns}]", self.table)?;
        match self.filters.is_empty() {
            true => Ok(()),
            false => write!(f, ", filters=[{}]", self.filters.join(", ")),
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

    /// A recursive query runs its term again and again; what is below is not seen to be reset.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Barrier {
            table: self.table.clone(),
            filters: self.filters.clone(),
            schema: Arc::clone(&self.schema),
            inner: reset_plan_states(Arc::clone(&self.inner))?,
            properties: Arc::clone(&self.properties),
            estimate: Arc::clone(&self.estimate),
            metrics: self.metrics.clone(),
        }))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.inner.execute(partition, context).map_err(without_values)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let schema = Arc::clone(&self.schema);
        let shown = rows.map(move |batch| {
            let batch = batch.map_err(without_values)?;
            metrics.output_rows().add(batch.num_rows());
            retyped(batch, &schema)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), shown)))
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
            ..Statistics::new_unknown(&self.schema)
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
