//! Rows that a join above will not take, left out before they are grouped.
//!
//! # Why
//! A join knows, once it has read one side, which keys the other side can have; the engine tells the scan
//! below, which passes over what it can tell from its statistics. `l_quantity < (SELECT avg(l_quantity) …
//! WHERE l_partkey = p_partkey)` groups millions of rows for a few hundred keys that are scattered over
//! every file: here they are left out row by row.
//! What it guarantees: a row goes only where a join or a sort above says that it takes no row of its
//! group.
//! What it does not: where few rows go it stops asking. Joins check their rows in any case.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt as _;

use crate::secure::dynamic;

/// The engine's rule that tells scans what joins come to know. It has to find the places.
const TELLING: &str = "FilterPushdown(Post)";
/// After so many rows it is known whether many of them go.
const ROWS_TO_LEARN: usize = 64 * 1024;
/// Of four rows that come, at most so many are kept where it is worth asking.
const KEPT_OF_FOUR: usize = 3;

/// The engine's rules, with places made below groups.
pub(crate) fn with_places(
    mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    if let Some(at) = rules.iter().position(|rule| rule.name() == TELLING) {
        rules.insert(at, Arc::new(Places));
    }
    rules
}

/// Makes a place below what reads the rows of groups.
#[derive(Debug)]
struct Places;

impl PhysicalOptimizerRule for Places {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let placed = |node: Arc<dyn ExecutionPlan>| -> Result<_> {
            let Some(groups) = node.downcast_ref::<AggregateExec>().filter(|it| reads_rows(it))
            else {
                return Ok(Transformed::no(node));
            };
            let early = Arc::new(Early::new(Arc::clone(groups.input())));
            replace_children_if_necessary(node, vec![early]).map(Transformed::yes)
        };
        plan.transform_up(placed).map(|plan| plan.data)
    }

    fn name(&self) -> &str {
        "kho_early"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn reads_rows(groups: &AggregateExec) -> bool {
    let mode = groups.mode();
    !groups.group_expr().is_true_no_grouping()
        && matches!(
            mode,
            AggregateMode::Partial | AggregateMode::Single | AggregateMode::SinglePartitioned
        )
}

/// Passes the rows of its input that joins and sorts above may take.
#[derive(Debug)]
struct Early {
    input: Arc<dyn ExecutionPlan>,
    /// What they tell, over the columns of the input.
    told: Vec<Arc<dyn PhysicalExpr>>,
    seen: Arc<Seen>,
    metrics: ExecutionPlanMetricsSet,
}

/// How many rows came and were kept, in all partitions.
#[derive(Debug, Default)]
struct Seen {
    came: AtomicUsize,
    kept: AtomicUsize,
}

impl Seen {
    fn is_worth_it(&self) -> bool {
        let (came, kept) = (self.came.load(Ordering::Relaxed), self.kept.load(Ordering::Relaxed));
        came < ROWS_TO_LEARN || kept.saturating_mul(4) <= came.saturating_mul(KEPT_OF_FOUR)
    }

    fn note(&self, came: usize, kept: usize) {
        self.came.fetch_add(came, Ordering::Relaxed);
        self.kept.fetch_add(kept, Ordering::Relaxed);
    }
}

impl Early {
    fn new(input: Arc<dyn ExecutionPlan>) -> Early {
        let (seen, metrics) = (Arc::default(), ExecutionPlanMetricsSet::new());
        Early { input, told: Vec::new(), seen, metrics }
    }
}

impl DisplayAs for Early {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EarlyFilter: rows that joins above take")
    }
}

impl ExecutionPlan for Early {
    fn name(&self) -> &str {
        "EarlyFilter"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Early { told: self.told.clone(), ..Early::new(input) })),
            Err(_) => internal_err!("rows are left out of one input"),
        }
    }

    /// What was told belongs to a run that is over.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Early::new(Arc::clone(&self.input))))
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parents: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(parents, &self.children())
    }

    /// Keeps what it is told; without that it is in nobody's way.
    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters = result.parent_filters.iter().map(|parent| Arc::clone(&parent.filter));
        let told = match phase {
            FilterPushdownPhase::Post => filters.filter(dynamic::may_enter).collect::<Vec<_>>(),
            FilterPushdownPhase::Pre => Vec::new(),
        };
        let input = Arc::clone(&self.input);
        let node: Arc<dyn ExecutionPlan> = match told.is_empty() && self.told.is_empty() {
            true => input,
            false => {
                let told = self.told.iter().cloned().chain(told).collect();
                Arc::new(Early { told, ..Early::new(input) })
            }
        };
        Ok(FilterPushdownPropagation::if_any(result).with_updated_node(node))
    }

    /// A join makes its predicate only where somebody says to hold it.
    fn apply_expressions(
        &self,
        apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        dynamic::apply(&self.told, apply)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let (told, seen) = (self.told.clone(), Arc::clone(&self.seen));
        let schema = self.schema();
        let kept = rows.map(move |batch| {
            let batch = batch?;
            let came = batch.num_rows();
            let batch = match seen.is_worth_it() {
                true => {
                    let _time = metrics.elapsed_compute().timer();
                    dynamic::kept(&told, batch)?
                }
                false => batch,
            };
            seen.note(came, batch.num_rows());
            metrics.output_rows().add(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, kept)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        match inputs {
            [input] => Ok(Arc::new(input.as_ref().clone().to_inexact())),
            _ => internal_err!("rows are left out of one input"),
        }
    }
}
