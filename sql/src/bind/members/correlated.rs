//! Subqueries that ask something of the outer row.
//!
//! # Why
//! The engine joins the rows of such a subquery as if it asked nothing, and asks the outer row of
//! what it joined. That gives the same where each row is looked at by itself. Where the subquery
//! counts, numbers or cuts off its rows, or fills in for those that it does not find, it has other
//! rows by then; the engine does not see that in every case, so it is seen here.

use std::collections::HashSet;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Distinct, Expr, FetchType, JoinType, LogicalPlan, SkipType};
use kho_catalog::error::Error;

use crate::errors::to_engine;

/// Whether `plan` asks something of the outer row.
pub(super) fn is(plan: &LogicalPlan) -> bool {
    plan.contains_outer_reference() || plan.inputs().into_iter().any(is_below)
}

/// The columns of the outer row that `plan` asks for.
pub(super) fn outer_columns(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let mut all = Vec::new();
    each_outer(plan, &mut |expr| {
        expr.apply(|part| {
            if let Expr::OuterReferenceColumn(_, column) = part {
                all.push(column.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    })?;
    Ok(all)
}

/// Visits what in `plan` asks the outer row.
fn each_outer(plan: &LogicalPlan, visit: &mut dyn FnMut(&Expr) -> Result<()>) -> Result<()> {
    plan.apply_expressions(|expr| {
        if expr.contains_outer() {
            visit(expr)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let below = plan.inputs().into_iter().filter(|it| !matches!(it, LogicalPlan::Subquery(_)));
    below.into_iter().try_for_each(|input| each_outer(input, visit))
}

/// That what the subqueries of `node` ask the outer row for, and also `value`, is not called as what it
/// is compared with: the engine would take the one for the other.
///
/// # Errors
/// `0A000`.
pub(super) fn require_apart(plan: &LogicalPlan, value: Option<&Expr>) -> Result<()> {
    let mut outer: HashSet<Column> = outer_columns(plan)?.into_iter().collect();
    outer.extend(value.into_iter().flat_map(Expr::column_refs).cloned());
    let mut same = false;
    each_outer(plan, &mut |expr| {
        same = same || expr.column_refs().into_iter().any(|column| outer.contains(column));
        Ok(())
    })?;
    match same {
        true => Err(to_engine(
            Error::unsupported(
                "a subquery that depends on the outer row and reads a table by the name that one of \
                 the outer query has is not supported",
            )
            .with_hint("Give one of them an alias."),
        )),
        false => Ok(()),
    }
}

/// That the subqueries of `node` depend on none but its own rows.
///
/// # Errors
/// `0A000`.
pub(super) fn require_nearest(node: &LogicalPlan) -> Result<()> {
    let schema = merge_schema(&node.inputs());
    node.apply_subqueries(|plan| {
        let LogicalPlan::Subquery(it) = plan else { return Ok(TreeNodeRecursion::Continue) };
        let columns = outer_columns(&it.subquery)?;
        match columns.iter().all(|column| schema.has_column(column)) {
            true => Ok(TreeNodeRecursion::Continue),
            false => Err(to_engine(Error::unsupported(
                "a subquery that depends on a row of a query further out than the one around it is \
                 not supported",
            ))),
        }
    })
    .map(drop)
}

/// What a lateral subquery asks, it asks of what stands beside it.
fn is_below(input: &LogicalPlan) -> bool {
    !matches!(input, LogicalPlan::Subquery(_)) && is(input)
}

/// That the engine finds the rows of `plan` for each outer row.
///
/// # Errors
/// `0A000`.
pub(super) fn require(plan: &LogicalPlan) -> Result<()> {
    if !is(plan) {
        return Ok(());
    }
    match plan {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::Union(_)
        | LogicalPlan::Unnest(_) => plan.inputs().into_iter().try_for_each(require_below),
        LogicalPlan::Sort(it) if it.fetch.is_none() => require_below(&it.input),
        LogicalPlan::Aggregate(it) => match it.group_expr.as_slice() {
            [] => Err(refused("aggregates without GROUP BY")),
            keys if keys.iter().any(|key| matches!(key, Expr::GroupingSet(_))) => {
                Err(refused("has grouping sets"))
            }
            _ => require_below(&it.input),
        },
        LogicalPlan::Join(it) => {
            let (left, right) = match it.join_type {
                JoinType::Inner => (true, true),
                JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
                    (true, false)
                }
                JoinType::Right
                | JoinType::RightSemi
                | JoinType::RightAnti
                | JoinType::RightMark => (false, true),
                JoinType::Full => (false, false),
            };
            for (input, keeps_all) in [(&it.left, left), (&it.right, right)] {
                match keeps_all || !is_below(input) {
                    true => require_below(input)?,
                    false => return Err(refused("does so within an outer join")),
                }
            }
            Ok(())
        }
        LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => Err(refused("has a LIMIT or an OFFSET")),
        LogicalPlan::Window(_) => Err(refused("calls window functions")),
        _ => Err(refused("is of this kind")),
    }
}

fn require_below(input: &LogicalPlan) -> Result<()> {
    match input {
        LogicalPlan::Subquery(_) => Ok(()),
        other => require(other),
    }
}

/// The rows of a subquery of which it is asked whether there is one.
///
/// # Errors
/// As [`require`].
pub(super) fn rows(plan: &LogicalPlan) -> Result<&LogicalPlan> {
    let rows = match plan {
        // How many there are at most does not matter.
        LogicalPlan::Limit(it) if is(plan) => match (it.get_skip_type()?, it.get_fetch_type()?) {
            (SkipType::Literal(0), FetchType::Literal(Some(1..))) => it.input.as_ref(),
            (SkipType::Literal(0), FetchType::Literal(Some(0))) => return Ok(plan),
            _ => plan,
        },
        other => other,
    };
    require(rows)?;
    require_apart(rows, None)?;
    Ok(rows)
}

/// The same for a subquery that is a value.
///
/// # Errors
/// As [`require`].
pub(super) fn require_value(plan: &LogicalPlan) -> Result<()> {
    if !is(plan) {
        return Ok(());
    }
    match plan {
        LogicalPlan::Projection(it) => require_value(&it.input),
        LogicalPlan::SubqueryAlias(it) => require_value(&it.input),
        // The engine fills in for groups that are not there, not for those that HAVING leaves out.
        LogicalPlan::Filter(it) if is(&it.input) && gives_one_row(&it.input) => {
            Err(refused("has HAVING without GROUP BY"))
        }
        LogicalPlan::Filter(it) => require_value(&it.input),
        LogicalPlan::Sort(it) if it.fetch.is_none() => require_value(&it.input),
        // The engine knows what it gives of no rows.
        LogicalPlan::Aggregate(it) if it.group_expr.is_empty() => require_below(&it.input),
        other => require(other),
    }
}

/// Whether `plan` gives one row, whatever it asks.
pub(in crate::bind) fn gives_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(it) => gives_one_row(&it.input),
        LogicalPlan::SubqueryAlias(it) => gives_one_row(&it.input),
        LogicalPlan::Sort(it) if it.fetch.is_none() => gives_one_row(&it.input),
        LogicalPlan::Aggregate(it) => it.group_expr.is_empty(),
        _ => false,
    }
}

fn refused(what: &str) -> datafusion::error::DataFusionError {
    let message = format!("a subquery that depends on the outer row and {what} is not supported");
    to_engine(Error::unsupported(message))
}
