//! What the sets of `ROLLUP`, `CUBE` and `GROUPING SETS` compute, computed beneath them.
//!
//! # Why
//! What is bound after the planner changes expressions, by what PostgreSQL has them mean, and each keeps
//! its name. In a set none has a name that could be kept, and whoever stands above asked for a column
//! that was no more: `ROLLUP (a % 2)`.
//! What it guarantees: a set is made of columns; those that stand for expressions are called as these were.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder};

/// `plan`, whose sets of groups are made of columns.
pub(super) fn by_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut any = false;
    plan.apply_with_subqueries(|node| {
        any |= matches!(node, LogicalPlan::Aggregate(groups) if !computed(groups).is_empty());
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !any {
        return Ok(plan);
    }
    let by_columns = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(groups) => beneath(groups).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    });
    by_columns.map(|it| it.data)
}

/// What the sets of `groups` are made of beside columns.
fn computed(groups: &Aggregate) -> Vec<Expr> {
    let mut all: Vec<Expr> = Vec::new();
    for expr in &groups.group_expr {
        if let Expr::GroupingSet(set) = expr {
            let parts = set.distinct_expr().into_iter();
            for part in parts.filter(|it| !matches!(it, Expr::Column(_))) {
                if !all.contains(part) {
                    all.push(part.clone());
                }
            }
        }
    }
    all
}

fn beneath(groups: Aggregate) -> Result<LogicalPlan> {
    let computed = computed(&groups);
    if computed.is_empty() {
        return Ok(LogicalPlan::Aggregate(groups));
    }
    let Aggregate { input, group_expr, aggr_expr, .. } = groups;
    let given = input.schema().columns().into_iter().map(Expr::Column);
    let beside = computed.iter().map(|it| it.clone().alias(it.schema_name().to_string()));
    let given: Vec<Expr> = given.chain(beside).collect();
    let input = LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(given)?.build()?;
    // What tells of a group's set names its parts, too.
    let named = |expr: Expr| {
        expr.transform_down(|part| match computed.contains(&part) {
            true => {
                let column = Column::new_unqualified(part.schema_name().to_string());
                Ok(Transformed::new(Expr::Column(column), true, TreeNodeRecursion::Jump))
            }
            false => Ok(Transformed::no(part)),
        })
        .map(|it| it.data)
    };
    let group_expr = group_expr.into_iter().map(named).collect::<Result<_>>()?;
    let aggr_expr = aggr_expr.into_iter().map(named).collect::<Result<_>>()?;
    Aggregate::try_new(Arc::new(input), group_expr, aggr_expr).map(LogicalPlan::Aggregate)
}
