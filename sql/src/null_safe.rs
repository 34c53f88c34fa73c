//! Joins by `IS NOT DISTINCT FROM`, to which NULL is a key like others.
//!
//! # Why
//! The engine says once for all keys of a join whether NULL is one. Two of its rules put keys of another
//! kind beside those: then rows of `a = b` come back where both are NULL, or others are lost.
//! What it is: these two rules, which are not asked where a join by `IS NOT DISTINCT FROM` is.
//! What it guarantees: a join has keys of one kind.
//! What it does not: where there is such a join, other joins of the statement stay in their order.

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{NullEquality, Result};
use datafusion::logical_expr::{Join, LogicalPlan};
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// Puts joins that stand beside each other together by all of their conditions.
#[derive(Debug, Default)]
pub(crate) struct CrossJoins(EliminateCrossJoin);

/// Makes keys of conditions.
#[derive(Debug, Default)]
pub(crate) struct Keys(ExtractEquijoinPredicate);

impl OptimizerRule for CrossJoins {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let mut has_one = false;
        plan.apply_with_subqueries(|node| {
            has_one |= matches!(node, LogicalPlan::Join(join) if takes_null(join));
            Ok(if has_one { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        match has_one {
            true => Ok(Transformed::no(plan)),
            false => self.0.rewrite(plan, config),
        }
    }
}

impl OptimizerRule for Keys {
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
        match &plan {
            LogicalPlan::Join(join) if takes_null(join) => Ok(Transformed::no(plan)),
            _ => self.0.rewrite(plan, config),
        }
    }
}

/// Whether NULL is a key of the join.
fn takes_null(join: &Join) -> bool {
    join.null_equality == NullEquality::NullEqualsNull && !join.on.is_empty()
}
