//! `EXCEPT ALL` and `INTERSECT ALL`, which count equal rows.
//!
//! # Why
//! The engine makes joins of them that ask of each row whether there is one like it on the other side:
//! `{1, 1, 1} EXCEPT ALL {1}` gave nothing, where two rows are left.
//! What it guarantees: equal rows of each side have numbers, from 1, and the n-th of one side is like
//! the n-th of the other alone. NULL is like NULL.
//! What it does not: which of the equal rows stays is not said, since nothing tells them apart.

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, NullEquality, Result};
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::{
    Distinct, Expr, ExprFunctionExt, Join, JoinType, LogicalPlan, LogicalPlanBuilder,
};

/// What the numbers of the sides are called: no user can write that.
const TURN: &str = "\u{1}turn";
const OTHERS_TURN: &str = "\u{1}turn of the other";

/// `plan`, in which equal rows are counted where they are to be.
pub(super) fn counted(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut any = false;
    plan.apply_with_subqueries(|node| {
        any |= matches!(node, LogicalPlan::Join(join) if counts(join));
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !any {
        return Ok(plan);
    }
    let counted = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if counts(&join) => by_turn(join).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    });
    counted.map(|it| it.data)
}

/// Whether the planner made `join` of a set operation with `ALL`: no other join of a statement takes
/// NULL for NULL before it is optimized, and without `ALL` the left side is distinct.
fn counts(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftAnti | JoinType::LeftSemi)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
}

fn by_turn(join: Join) -> Result<LogicalPlan> {
    let Join { left, right, on, join_type, null_equality, .. } = join;
    let columns: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
    let (left, right) = (numbered(left.as_ref(), TURN)?, numbered(right.as_ref(), OTHERS_TURN)?);
    let column = |expr: Expr| match expr {
        Expr::Column(column) => Some(column),
        _ => None,
    };
    let keys = on.into_iter().filter_map(|(one, other)| Some((column(one)?, column(other)?)));
    let turns = (Column::from_name(TURN), Column::from_name(OTHERS_TURN));
    let keys: (Vec<_>, Vec<_>) = keys.chain([turns]).unzip();
    LogicalPlanBuilder::from(left)
        .join_detailed(right, join_type, keys, None, null_equality)?
        .project(columns)?
        .build()
}

/// The rows of `plan`, with a number for each that is equal to others.
fn numbered(plan: &LogicalPlan, name: &str) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let turn = row_number().partition_by(columns.clone()).build()?;
    let called = Expr::Column(Column::from_name(turn.schema_name().to_string())).alias(name);
    LogicalPlanBuilder::from(plan.clone())
        .window([turn])?
        .project(columns.into_iter().chain([called]))?
        .build()
}
