//! Whether a value is among the rows of a subquery: `IN`, `= ANY`, `>= ALL` and their negations.
//!
//! # Why
//! The engine makes joins of such conditions, and only one kind of them knows of NULL: `NOT IN` of a
//! column, as a whole condition, over a subquery that asks nothing of the outer row. Everywhere else
//! it takes what is unknown for false, and the `NOT` of that for true: a row would be seen, or be
//! removed, of which nobody knows whether it may. The subquery of `= ANY` keeps its names beside
//! those of the outer query, which are then taken for one another.
//! What it guarantees: a plan that leaves here says in terms of `EXISTS` what is true, what is false
//! and what is unknown, but for those conditions that the engine joins rightly, which are fast. What
//! it would join wrongly is refused (`0A000`). As one of the things that a query gives, or sorts or
//! counts by, the same is asked by counting, since there the engine joins nothing else.
//! What it does not: rows are not compared with rows.

mod condition;
mod correlated;
mod set;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Projection,
};

use condition::{Place, Unknown, Within};

/// The plan with PostgreSQL's answers. The types of its columns must be those that they will have.
pub(super) fn as_postgres(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut asks = false;
    plan.apply_with_subqueries(|node| {
        asks = asks || node_asks(node)?;
        Ok(if asks { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !asks {
        return Ok(plan);
    }
    let plan = plan.transform_up_with_subqueries(|node| {
        let node = match node_asks(&node)? {
            true => answered(node)?,
            false => node,
        };
        match node {
            LogicalPlan::TableScan(_) => Ok(Transformed::no(node)),
            // Whether a column can be NULL may be known better below.
            node => node.recompute_schema().map(Transformed::yes),
        }
    })?;
    Ok(plan.data)
}

/// Whether `expr` asks something of a subquery.
fn asks(expr: &Expr) -> Result<bool> {
    expr.exists(|part| {
        Ok(matches!(
            part,
            Expr::InSubquery(_)
                | Expr::SetComparison(_)
                | Expr::Exists(_)
                | Expr::ScalarSubquery(_)
        ))
    })
}

fn node_asks(node: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        found = found || asks(expr)?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn answered(node: LogicalPlan) -> Result<LogicalPlan> {
    match node {
        LogicalPlan::Filter(Filter { predicate, input, .. }) => {
            let within = Within { schema: input.schema(), place: Place::Condition };
            let predicate = within.predicate(predicate)?;
            Filter::try_new(predicate, input).map(LogicalPlan::Filter)
        }
        LogicalPlan::Join(join) => joined(join),
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Sort(_) => beneath(node),
        other => with_values(other),
    }
}

/// Every expression of the node as one of which the value is wanted.
fn with_values(node: LogicalPlan) -> Result<LogicalPlan> {
    let schema = merge_schema(&node.inputs());
    let within = Within { schema: &schema, place: Place::Value };
    let names = NamePreserver::new(&node);
    let node = node.map_expressions(|expr| {
        if !asks(&expr)? {
            return Ok(Transformed::no(expr));
        }
        let name = names.save(&expr);
        let expr = within.value(expr, Unknown::IsKept)?;
        Ok(Transformed::yes(name.restore(expr)))
    })?;
    Ok(node.data)
}

/// What an inner join asks of subqueries is asked of what it gives, where the engine makes joins of it.
fn joined(mut join: Join) -> Result<LogicalPlan> {
    if join.join_type != JoinType::Inner {
        let schema = both_sides(&join)?;
        let within = Within { schema: &schema, place: Place::Condition };
        join.filter = join.filter.map(|it| within.value(it, Unknown::IsFalse)).transpose()?;
        return Ok(LogicalPlan::Join(join));
    }
    let (mut asking, mut plain) = (Vec::new(), Vec::new());
    for part in join.filter.take().map(split_conjunction_owned).unwrap_or_default() {
        match asks(&part)? {
            true => asking.push(part),
            false => plain.push(part),
        }
    }
    join.filter = conjunction(plain);
    let join = LogicalPlan::Join(join);
    match conjunction(asking) {
        Some(asking) => answered(LogicalPlan::Filter(Filter::try_new(asking, Arc::new(join))?)),
        // Its equalities ask.
        None => with_values(join),
    }
}

fn both_sides(join: &Join) -> Result<DFSchema> {
    join.left.schema().join(join.right.schema())
}

/// What the node asks of subqueries, asked beneath it: the engine does not look for that in nodes of
/// its kind.
fn beneath(node: LogicalPlan) -> Result<LogicalPlan> {
    let Some(input) = node.inputs().first().map(|it| LogicalPlan::clone(it)) else {
        return Ok(node);
    };
    let given = node.schema().columns();
    let mut asked: Vec<Expr> = Vec::new();
    let names = NamePreserver::new(&node);
    let mut exprs = Vec::new();
    for expr in node.expressions() {
        let name = names.save(&expr);
        let expr = expr.transform_down(|part| {
            if !matches!(part, Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::Exists(_)) {
                return Ok(Transformed::no(part));
            }
            let place = asked.iter().position(|it| *it == part).unwrap_or_else(|| {
                asked.push(part);
                asked.len().saturating_sub(1)
            });
            let column = Expr::Column(Column::new_unqualified(asked_name(place)));
            Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
        })?;
        exprs.push(name.restore(expr.data));
    }
    if asked.is_empty() {
        return with_values(node);
    }
    let columns = input.schema().columns().into_iter().map(Expr::Column);
    let asked = asked.into_iter().enumerate().map(|(place, it)| it.alias(asked_name(place)));
    let below = Projection::try_new(columns.chain(asked).collect(), Arc::new(input))?;
    let below = answered(LogicalPlan::Projection(below))?;
    let node = with_values(node.with_new_exprs(exprs, vec![below])?)?;
    match node.schema().fields().len() == given.len() {
        true => Ok(node),
        false => {
            let given = given.into_iter().map(Expr::Column);
            LogicalPlanBuilder::from(node).project(given)?.build()
        }
    }
}

/// No user can write it.
fn asked_name(place: usize) -> String {
    format!("\u{1}asked {place}")
}
