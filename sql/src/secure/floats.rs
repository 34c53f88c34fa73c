//! Files whose statistics on floats are not believed.
//!
//! # Why
//! What writes Parquet passes `NaN` over in its statistics, and for PostgreSQL `NaN` is above every
//! number: a file that has one would be passed over by `d > 50`. The engine hands predicates to files in
//! two ways, as a table is planned and once more when the whole plan is, what joins come to know among
//! them. The second way leads through this node.
//! What it guarantees: no predicate that has a float column in it gets to the files.
//! What it does not: it evaluates none; who made it does.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, FilterDescription, FilterPushdownPhase,
};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// `rows`, which nothing is asked of by a float.
pub(super) fn unasked(rows: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match rows.schema().fields().iter().any(|field| field.data_type().is_floating()) {
        true => Arc::new(FloatsExec { input: rows }),
        false => rows,
    }
}

#[derive(Debug)]
struct FloatsExec {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for FloatsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FloatsExec")
    }
}

impl ExecutionPlan for FloatsExec {
    fn name(&self) -> &str {
        "FloatsExec"
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

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(FloatsExec { input })),
            Err(_) => internal_err!("FloatsExec has one input"),
        }
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parents: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let schema = self.input.schema();
        let others = (schema.fields().iter().enumerate())
            .filter(|(_, field)| !field.data_type().is_floating())
            .map(|(place, _)| place)
            .collect::<HashSet<_>>();
        let child =
            ChildFilterDescription::from_child_with_allowed_indices(&parents, others, &self.input)?;
        Ok(FilterDescription::new().with_child(child))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
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
            [input] => Ok(Arc::clone(input)),
            _ => internal_err!("FloatsExec has one input"),
        }
    }
}
