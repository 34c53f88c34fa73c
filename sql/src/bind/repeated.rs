//! A `WITH` query that gives other rows each time, and is asked for more than once.
//!
//! # Why
//! PostgreSQL computes it once for all who name it. The engine puts it in the place of each name, and two
//! of them with `random()` have nothing in common.
//! On failure: `0A000`. A query that gives the same rows each time may be computed as often as one likes.

use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, SubqueryAlias};
use kho_catalog::error::Error;

use crate::errors::to_engine;

/// Refuses such a plan.
pub(super) fn refuse_repeated(plan: LogicalPlan) -> Result<LogicalPlan> {
    // Few do at all: one look tells.
    if !varies(&plan)? {
        return Ok(plan);
    }
    let mut seen: Vec<SubqueryAlias> = Vec::new();
    let mut repeated = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::SubqueryAlias(it) = node
            && varies(&it.input)?
        {
            match seen.contains(it) {
                true => repeated = Some(it.alias.table().to_owned()),
                false => seen.push(it.clone()),
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let Some(name) = repeated else { return Ok(plan) };
    let message = format!("WITH query \"{name}\" gives other rows each time and is used twice");
    Err(to_engine(
        Error::unsupported(message).with_hint("CREATE TABLE AS keeps the rows that it gave."),
    ))
}

fn varies(plan: &LogicalPlan) -> Result<bool> {
    let mut varies = false;
    plan.apply_with_subqueries(|node| {
        varies |= node.expressions().iter().any(|expr| expr.is_volatile());
        Ok(match varies {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(varies)
}
