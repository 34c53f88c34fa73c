//! The parts of a condition, in the order that costs least.
//!
//! # Why
//! The engine reads `a AND b AND c` as `(a AND b) AND c`, and where few rows satisfy `a AND b` it copies
//! those rows, of all columns, before it looks at `c`: once for each further part. To compare a column
//! of numbers costs less than such a copy. To compare text, or to call a function, costs more. So
//! comparisons of numbers and times come first, as one part, and all of them look at all rows;
//! the others follow, in their order, and look at the rows that are left.
//! `b <> 0 AND a / b > 1` is not to fail, and the engine looks at both parts of a row where few rows are
//! left out by the first. So a part that can fail ([`failing`]) is looked at for no other rows than those
//! that satisfy the parts before.
//! What it guarantees: what is put first cannot fail; whether a part that can fail is looked at depends
//! on no other row.
//! What it does not: as in PostgreSQL, parts need not be in the order in which they were written.

mod failing;

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, Column, Literal, lit};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};

use crate::input::compares;

/// Orders the parts of every filter's condition.
#[derive(Debug)]
pub(crate) struct Conjuncts;

impl PhysicalOptimizerRule for Conjuncts {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let ordered = |node: Arc<dyn ExecutionPlan>| -> Result<_> {
            let Some(filter) = node.downcast_ref::<FilterExec>() else {
                return Ok(Transformed::no(node));
            };
            match ordered(filter.predicate(), &filter.input().schema())? {
                Some(predicate) => {
                    let filter =
                        FilterExecBuilder::from(filter).with_predicate(predicate).build()?;
                    Ok(Transformed::yes(Arc::new(filter) as _))
                }
                None => Ok(Transformed::no(node)),
            }
        };
        plan.transform_up(ordered).map(|plan| plan.data)
    }

    fn name(&self) -> &str {
        "kho_conjuncts"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `predicate` with its parts in order; `None` where it has fewer than two.
fn ordered(
    predicate: &Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let parts = split_conjunction(predicate);
    if parts.len() < 2 {
        return Ok(None);
    }
    let (cheap, dear): (Vec<_>, Vec<_>) =
        parts.into_iter().cloned().partition(|part| is_cheap(part, schema));
    // Read from the left, so that each sees the rows that are left.
    dear.into_iter().try_fold(all(cheap), |before, part| {
        Ok(Some(match before {
            Some(before) if failing::can_fail(part.as_ref(), schema) => behind(before, part)?,
            Some(before) => and(before, part),
            None => part,
        }))
    })
}

/// `part`, looked at where `before` is true and nowhere else.
fn behind(
    before: Arc<dyn PhysicalExpr>,
    part: Arc<dyn PhysicalExpr>,
) -> Result<Arc<dyn PhysicalExpr>> {
    Ok(Arc::new(CaseExpr::try_new(None, vec![(before, part)], Some(lit(false)))?))
}

/// `a AND (b AND (c AND d))`: the left side is one comparison, so that rows are copied only where a
/// single one leaves few of them.
fn all(parts: Vec<Arc<dyn PhysicalExpr>>) -> Option<Arc<dyn PhysicalExpr>> {
    parts.into_iter().rev().reduce(|after, part| and(part, after))
}

fn and(left: Arc<dyn PhysicalExpr>, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(left, Operator::And, right))
}

/// Whether `part` compares columns of fixed width with one another or with constants.
fn is_cheap(part: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let fixed = |side: &Arc<dyn PhysicalExpr>| {
        let side: &dyn PhysicalExpr = side.as_ref();
        (side.downcast_ref::<Column>().is_some() || side.downcast_ref::<Literal>().is_some())
            && side.data_type(schema).is_ok_and(|it| it.is_primitive())
    };
    let part: &dyn PhysicalExpr = part.as_ref();
    part.downcast_ref::<BinaryExpr>()
        .is_some_and(|it| compares(*it.op()) && fixed(it.left()) && fixed(it.right()))
}

#[cfg(test)]
mod tests;
