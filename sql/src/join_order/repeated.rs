//! Semi and anti joins that ask for few values among many rows.
//!
//! # Why
//! The engine's join goes through all rows of one value, for each row that asks for it: of a hundred
//! thousand rows with ten values, asked for by as many, that is a thousand million.
//! What it guarantees: the rows are the same: whether there is a row with a value is whether there is a
//! group of it.
//! What it does not: where it is not known how many values there are, as of texts, rows stay rows.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{JoinType, Result};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::estimate;

/// So many rows of a value are worth being made one.
const ROWS_OF_A_VALUE: f64 = 16.0;

/// Groups what semi and anti joins look through, where it has more rows than `least_rows`.
#[derive(Debug)]
pub(crate) struct Repeated {
    pub least_rows: f64,
}

impl OptimizerRule for Repeated {
    fn name(&self) -> &str {
        "kho_repeated"
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(|node| match &node {
            LogicalPlan::Join(join) if self.repeats(join) => {
                grouped(join).map(|join| Transformed::yes(LogicalPlan::Join(join)))
            }
            _ => Ok(Transformed::no(node)),
        })
    }
}

impl Repeated {
    fn repeats(&self, join: &Join) -> bool {
        let asks = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti);
        let is_grouped =
            matches!(*join.right, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_));
        let (keys, mut values) = (&join.on, 1.0);
        if !asks || is_grouped || join.filter.is_some() || keys.is_empty() {
            return false;
        }
        for (_, key) in keys {
            match (key, estimate::domain(&join.right, key)) {
                (Expr::Column(_), Some(domain)) => values *= domain.values,
                _ => return false,
            }
        }
        estimate::rows(&join.right)
            .is_some_and(|rows| rows >= self.least_rows && rows >= values * ROWS_OF_A_VALUE)
    }
}

fn grouped(join: &Join) -> Result<Join> {
    let keys = join.on.iter().map(|(_, key)| key.clone());
    let right = LogicalPlanBuilder::from(join.right.as_ref().clone());
    let right = right.aggregate(keys, Vec::<Expr>::new())?.build()?;
    Join::try_new(
        Arc::clone(&join.left),
        Arc::new(right),
        join.on.clone(),
        None,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )
}
