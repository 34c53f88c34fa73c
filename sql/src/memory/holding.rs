//! Input that an operator keeps to its end without reporting it, counted on the way in.
//!
//! # Why
//! A window over a whole partition gathers all its rows, and the engine asks no pool for them:
//! `sum(x) OVER ()` over a large table would take the server down. Here each batch that such an
//! operator takes is reserved until it is done, twice, because at the end it copies them into one.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::StreamExt;

/// Operators that keep all of their input and report none.
const HOLDING: &[&str] = &["WindowAggExec"];
/// The input, and the copy of it in one piece.
const COPIES: usize = 2;

/// Puts the counting below every operator that holds its input.
#[derive(Debug)]
pub(crate) struct Holding;

impl PhysicalOptimizerRule for Holding {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let counted = |node: Arc<dyn ExecutionPlan>| -> Result<_> {
            if !HOLDING.contains(&node.name()) {
                return Ok(Transformed::no(node));
            }
            let inputs = node.children().into_iter().map(|input| {
                Arc::new(HeldExec { input: Arc::clone(input) }) as Arc<dyn ExecutionPlan>
            });
            let inputs = inputs.collect();
            let recompute = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            node.replace_children(inputs, recompute).map(Transformed::yes)
        };
        plan.transform_up(counted).map(|plan| plan.data)
    }

    fn name(&self) -> &str {
        "kho_holding"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Its input, every batch of which counts as held until the stream is dropped.
#[derive(Debug)]
struct HeldExec {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for HeldExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeldExec")
    }
}

impl ExecutionPlan for HeldExec {
    fn name(&self) -> &str {
        "HeldExec"
    }

    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Arc::new(HeldExec { input })),
            _ => internal_err!("HeldExec has one input"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let reservation = MemoryConsumer::new("window").register(context.memory_pool());
        let rows = self.input.execute(partition, context)?;
        let counted = rows.map(move |batch| {
            let batch = batch?;
            reservation.try_grow(batch.get_array_memory_size().saturating_mul(COPIES))?;
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
    }
}
