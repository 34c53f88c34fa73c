//! What is sorted by the same thing twice, sorted by it once.
//!
//! # Why
//! `SELECT DISTINCT ON (a) … ORDER BY a, a, b` is made of functions that take the first of their rows, by
//! the same keys. The engine drops a key that is there twice where it counts the keys, and not where
//! it computes them: it gave no row, or did not come back.
//! What it guarantees: a function's rows come in the same order, by keys that differ. Its column keeps
//! its name.
//! What it does not: keys that are equal in other ways are left to the engine.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// Drops what a function's rows are sorted by for the second time. Stands behind the rules that simplify:
/// two keys can come to be one.
#[derive(Debug)]
pub(crate) struct Once;

impl OptimizerRule for Once {
    fn name(&self) -> &str {
        "kho_once"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Aggregate(_)) {
            return Ok(Transformed::no(plan));
        }
        let names = NamePreserver::new_for_projection();
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|part| {
                Ok(match part {
                    Expr::AggregateFunction(mut of) if repeats(&of.params.order_by) => {
                        of.params.order_by = once(of.params.order_by);
                        Transformed::yes(Expr::AggregateFunction(of))
                    }
                    other => Transformed::no(other),
                })
            })?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })
    }
}

fn repeats(keys: &[Sort]) -> bool {
    keys.iter().enumerate().any(|(at, key)| keys.iter().take(at).any(|it| it.expr == key.expr))
}

fn once(keys: Vec<Sort>) -> Vec<Sort> {
    let mut kept: Vec<Sort> = Vec::with_capacity(keys.len());
    for key in keys {
        if kept.iter().all(|it| it.expr != key.expr) {
            kept.push(key);
        }
    }
    kept
}
