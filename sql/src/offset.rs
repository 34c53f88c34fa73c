//! The order of rows of which the first are left out.
//!
//! # Why
//! `id IN (SELECT id FROM log ORDER BY at DESC OFFSET 3)` keeps the newest three. The engine takes a sort
//! for needless where nobody above asks for an order, and it knows of a LIMIT that it does, but not of an
//! OFFSET alone: above `OFFSET 3` were any rows but three.
//! And it moves the sort that somebody above asks for below what leaves rows out.
//! What it guarantees: below an OFFSET without a LIMIT a sort stays where nothing between has an order of
//! its own, and no other sort comes there.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::sort_expr::OrderingRequirements;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::output_requirements::OutputRequirementExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, PlanProperties,
};

/// The engine's rule that says what order is asked for; another one takes away again what it put.
const ASKING: &str = "OutputRequirements";

/// The engine's rules, with the one that asks for an order below OFFSET.
pub(crate) fn with_order(
    mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let asking = rules.iter().position(|rule| rule.name() == ASKING);
    rules.insert(asking.map_or(0, |at| at + 1), Arc::new(Ordered));
    rules
}

/// Asks for the order of what an OFFSET without a LIMIT reads.
#[derive(Debug)]
struct Ordered;

impl PhysicalOptimizerRule for Ordered {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let asked = |node: Arc<dyn ExecutionPlan>| -> Result<_> {
            let skips = node.downcast_ref::<GlobalLimitExec>();
            match skips.filter(|it| it.fetch().is_none()) {
                Some(skips) => match sorted(skips.input())? {
                    Some(input) => {
                        let skips = replace_children_if_necessary(node, vec![input])?;
                        Ok(Transformed::yes(Arc::new(SkippedExec { skips }) as _))
                    }
                    None => Ok(Transformed::no(node)),
                },
                None => Ok(Transformed::no(node)),
            }
        };
        plan.transform_up(asked).map(|plan| plan.data)
    }

    fn name(&self) -> &str {
        "kho_offset_keeps_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What is left of rows in their order: through it no other order is asked for.
#[derive(Debug)]
struct SkippedExec {
    skips: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for SkippedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SkippedExec")
    }
}

impl ExecutionPlan for SkippedExec {
    fn name(&self) -> &str {
        "SkippedExec"
    }

    fn schema(&self) -> SchemaRef {
        self.skips.schema()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.skips.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.skips]
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
            Some(skips) if children.is_empty() => Ok(Arc::new(SkippedExec { skips })),
            _ => internal_err!("SkippedExec has one input"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.skips.execute(partition, context)
    }
}

/// `plan`, whose order is asked for by name; `None` where it has none that comes from a sort.
fn sorted(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(sort) = plan.downcast_ref::<SortExec>() {
        let asks = OrderingRequirements::from(sort.expr().clone());
        let anywhere = Distribution::UnspecifiedDistribution;
        let asking = OutputRequirementExec::new(Arc::clone(plan), Some(asks), anywhere, None);
        return Ok(Some(Arc::new(asking)));
    }
    let keeps = plan.maintains_input_order();
    match (plan.children().as_slice(), keeps.as_slice()) {
        ([input], [true]) => match sorted(input)? {
            Some(input) => replace_children_if_necessary(Arc::clone(plan), vec![input]).map(Some),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}
