//! Rows that several read, made by the first who asks.
//!
//! What it guarantees: the plan below is run once, each of its partitions when it is first asked for,
//! and whoever asks gets all of its rows. They are counted as the statement's memory; what finds no room
//! there, or is more than [`KEPT_BYTES`], goes to the spill folder.
//! What it does not: nobody gets a row before the last one of its partition is made.
//! On failure: all get the error.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SpillFile, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet, SpillMetrics};
use datafusion::physical_plan::spill::SpillManager;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use crate::outcome::bytes_of;

/// How much of one partition stays in memory.
const KEPT_BYTES: usize = 32 << 20;

/// What a partition's readers wait for.
type Coming = Shared<BoxFuture<'static, Result<Arc<Made>, Arc<DataFusionError>>>>;

/// A plan whose rows are shared, and those that were asked for, by partition.
#[derive(Debug)]
pub(super) struct SharedRows {
    plan: Arc<dyn ExecutionPlan>,
    parts: Vec<Mutex<Option<Coming>>>,
    metrics: ExecutionPlanMetricsSet,
}

/// The rows of one partition.
struct Made {
    batches: Vec<RecordBatch>,
    /// Those after them.
    file: Option<Arc<dyn SpillFile>>,
    spills: SpillManager,
    _memory: MemoryReservation,
}

impl SharedRows {
    pub(super) fn of(plan: Arc<dyn ExecutionPlan>) -> SharedRows {
        let partitions = plan.properties().partitioning.partition_count();
        let parts = (0..partitions).map(|_| Mutex::default()).collect();
        SharedRows { plan, parts, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The rows of `partition`, which somebody makes while they are waited for.
    fn part(&self, partition: usize, context: &Arc<TaskContext>) -> Result<Coming> {
        let Some(part) = self.parts.get(partition) else {
            return internal_err!("shared rows have no partition {partition}");
        };
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(coming) = part.as_ref() {
            return Ok(coming.clone());
        }
        let rows = self.plan.execute(partition, Arc::clone(context))?;
        let memory = MemoryConsumer::new(format!("SharedRows[{partition}]"));
        let memory = memory.with_can_spill(true).register(context.memory_pool());
        let metrics = SpillMetrics::new(&self.metrics, partition);
        let spills = SpillManager::new(context.runtime_env(), metrics, rows.schema());
        let made = made(rows, memory, spills).map(|made| made.map(Arc::new).map_err(Arc::new));
        Ok(part.insert(made.boxed().shared()).clone())
    }
}

async fn made(
    mut rows: SendableRecordBatchStream,
    memory: MemoryReservation,
    spills: SpillManager,
) -> Result<Made> {
    let (mut batches, mut file) = (Vec::new(), None);
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let bytes = bytes_of(&batch);
        let has_room = || memory.size().saturating_add(bytes) <= KEPT_BYTES;
        if file.is_none() && has_room() && memory.try_grow(bytes).is_ok() {
            batches.push(batch);
            continue;
        }
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(spills.create_in_progress_file("rows that are read again")?),
        };
        file.append_batch(&batch)?;
    }
    let file = file.map(|mut file| file.finish()).transpose()?.flatten();
    Ok(Made { batches, file, spills, _memory: memory })
}

impl Made {
    /// All of the rows, once more.
    fn rows(self: Arc<Self>) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(self.spills.schema());
        let spilled = match &self.file {
            Some(file) => self.spills.read_spill_as_stream(Arc::clone(file), None)?,
            None => Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), stream::empty())),
        };
        let kept = stream::unfold((self, 0), |(made, next)| async move {
            let batch = made.batches.get(next).cloned()?;
            Some((Ok(batch), (made, next + 1)))
        });
        let rows = RecordBatchStreamAdapter::new(schema, kept.chain(spilled));
        Ok(make_cooperative(Box::pin(rows)))
    }
}

/// Reads shared rows.
#[derive(Debug)]
pub(super) struct SharedExec {
    rows: Arc<SharedRows>,
    /// Whether the plan that makes them is shown as its input.
    is_open: bool,
}

impl SharedExec {
    /// What is below was planned for all of its readers: no rule that plans one of them may see it.
    pub(super) fn new(rows: Arc<SharedRows>) -> SharedExec {
        SharedExec { rows, is_open: false }
    }
}

/// Shows what makes shared rows, in a plan that no rule changes any more.
#[derive(Debug)]
pub(crate) struct Opening;

impl PhysicalOptimizerRule for Opening {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let open = |node: Arc<dyn ExecutionPlan>| {
            let closed = node.downcast_ref::<SharedExec>().filter(|it| !it.is_open);
            Ok(match closed {
                Some(it) => {
                    let rows = Arc::clone(&it.rows);
                    let open = Arc::new(SharedExec { rows, is_open: true }) as _;
                    Transformed::new(open, true, TreeNodeRecursion::Jump)
                }
                None => Transformed::no(node),
            })
        };
        plan.transform_down(open).map(|plan| plan.data)
    }

    fn name(&self) -> &str {
        "kho_opening"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl DisplayAs for SharedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedExec: made once")
    }
}

impl ExecutionPlan for SharedExec {
    fn name(&self) -> &str {
        "SharedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.rows.plan.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true; self.children().len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.children().len()]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        if self.is_open { vec![&self.rows.plan] } else { Vec::new() }
    }

    /// What is below is planned already, for all of its readers: no rule makes another of it for one.
    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        internal_err!("shared rows are not made twice")
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
        let coming = self.rows.part(partition, &context)?;
        let rows =
            stream::once(async move { coming.await.map_err(DataFusionError::Shared)?.rows() });
        let rows = RecordBatchStreamAdapter::new(self.schema(), rows.try_flatten());
        Ok(Box::pin(rows))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.rows.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition); self.children().len()]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        of: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        match inputs {
            [input] => Ok(Arc::clone(input)),
            _ => {
                let of = StatisticsArgs::new().with_partition(of.partition());
                StatisticsContext::new().compute(self.rows.plan.as_ref(), &of)
            }
        }
    }
}

#[cfg(test)]
mod tests;
