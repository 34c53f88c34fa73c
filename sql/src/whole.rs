//! Groups that are there without a row.
//!
//! # Why
//! `SELECT count(*) FROM t` gives a row where `t` has none, and so does a grouping set that is empty. The
//! engine takes a condition without columns to be one on groups, and asks it of the rows below: then a
//! condition that is not true leaves a count of 0 where there should be no row.
//! What it is: the engine's rule that moves conditions down, which is not asked where they would move
//! below such groups.
//! What it does not: a condition that cannot be true at all makes an empty relation of what it is on,
//! by other rules, rightly.

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// Moves conditions down, but not below a group that is there without a row.
#[derive(Debug, Default)]
pub(crate) struct PushDown(PushDownFilter);

impl OptimizerRule for PushDown {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match stays(&plan) {
            true => Ok(Transformed::no(plan)),
            false => self.0.rewrite(plan, config),
        }
    }
}

/// Whether some of the conditions of `plan` stand on such groups, and have no column.
fn stays(plan: &LogicalPlan) -> bool {
    let (mut below, mut is_constant) = (plan, false);
    while let LogicalPlan::Filter(filter) = below {
        is_constant |= split_conjunction(&filter.predicate).into_iter().any(has_no_column);
        below = &filter.input;
    }
    matches!(below, LogicalPlan::Aggregate(groups) if is_constant && has_one_without_rows(groups))
}

fn has_no_column(condition: &Expr) -> bool {
    condition.column_refs().is_empty()
}

fn has_one_without_rows(groups: &Aggregate) -> bool {
    groups.group_expr.is_empty()
        || groups.group_expr.iter().any(|it| matches!(it, Expr::GroupingSet(_)))
}
