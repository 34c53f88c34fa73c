//! Joins that give way to other work.
//!
//! # Why
//! The engine's operators yield when they read from a source. A join can make hours of rows from one
//! batch of its source: such a task holds its thread, cannot be cancelled, and two of them hold a
//! server of two threads. Here each batch that a join gives counts, too.
//! What a nested loop reads is given to it in pieces, see [`paced`].
//! What it does not: other work inside one batch is not interrupted.

mod paced;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

const NESTED_LOOP: &str = "NestedLoopJoinExec";

/// Operators that can give many more rows than they read.
const MULTIPLYING: &[&str] = &[
    "CrossJoinExec",
    NESTED_LOOP,
    "HashJoinExec",
    "SortMergeJoinExec",
    "PiecewiseMergeJoinExec",
    "SymmetricHashJoinExec",
    "UnnestExec",
];

/// Puts a yield point above every operator that multiplies rows.
#[derive(Debug)]
pub(crate) struct Yielding;

impl PhysicalOptimizerRule for Yielding {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let yielding = |node: Arc<dyn ExecutionPlan>| -> Result<_> {
            let node = match node.name() {
                NESTED_LOOP => paced::paced(node)?,
                _ => node,
            };
            Ok(match MULTIPLYING.contains(&node.name()) {
                true => Transformed::yes(Arc::new(CooperativeExec::new(node)) as _),
                false => Transformed::no(node),
            })
        };
        plan.transform_up(yielding).map(|plan| plan.data)
    }

    fn name(&self) -> &str {
        "kho_yielding"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
