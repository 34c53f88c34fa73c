//! What the conditions of joins ask of subqueries.
//!
//! # Why
//! The engine makes joins of what a filter asks, and of nothing that a join asks itself. So an inner
//! join's questions are asked of what it gives; an outer join's, which decide about pairs and not
//! about rows, are asked of one of its sides before.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Projection,
};
use kho_catalog::error::Error;

use super::{Asked, answered, asks, correlated, is_question, subquery};
use crate::errors::to_engine;

pub(super) fn answered_join(mut join: Join) -> Result<LogicalPlan> {
    let (mut asking, mut plain) = (Vec::new(), Vec::new());
    for part in join.filter.take().map(split_conjunction_owned).unwrap_or_default() {
        match asks(&part)? {
            true => asking.push(part),
            false => plain.push(part),
        }
    }
    match join.join_type {
        JoinType::Inner => {
            join.filter = conjunction(plain);
            let join = LogicalPlan::Join(join);
            match conjunction(asking) {
                Some(asking) => above(asking, join),
                None => Ok(join),
            }
        }
        _ => outer(join, plain, asking),
    }
}

fn above(asking: Expr, input: LogicalPlan) -> Result<LogicalPlan> {
    answered(LogicalPlan::Filter(Filter::try_new(asking, Arc::new(input))?))
}

fn outer(mut join: Join, mut plain: Vec<Expr>, asking: Vec<Expr>) -> Result<LogicalPlan> {
    let given = join.schema.columns();
    let (mut left, mut right) = (Asked::default(), Asked::default());
    for part in asking {
        let columns = columns(&part)?;
        // Rows of this side that do not satisfy it find no partner, and leave nothing.
        let side = match join.join_type {
            JoinType::Left if all_of(&columns, join.right.schema()) => Some(&mut join.right),
            JoinType::Right if all_of(&columns, join.left.schema()) => Some(&mut join.left),
            _ => None,
        };
        match side {
            Some(side) => {
                *side = Arc::new(above(part, Arc::unwrap_or_clone(Arc::clone(side)))?);
            }
            None => {
                let (of_left, of_right) = (join.left.schema(), join.right.schema());
                plain.push(asked(part, (of_left, &mut left), (of_right, &mut right))?);
            }
        }
    }
    join.filter = conjunction(plain);
    let changed = !left.is_empty() || !right.is_empty();
    join.left = Arc::new(with(left, join.left)?);
    join.right = Arc::new(with(right, join.right)?);
    let join = LogicalPlan::Join(join).recompute_schema()?;
    match changed {
        true => {
            LogicalPlanBuilder::from(join).project(given.into_iter().map(Expr::Column))?.build()
        }
        false => Ok(join),
    }
}

/// `part` with columns of one of the sides in place of what it asks.
fn asked(
    part: Expr,
    (of_left, left): (&DFSchema, &mut Asked),
    (of_right, right): (&DFSchema, &mut Asked),
) -> Result<Expr> {
    let part = part.transform_down(|part| {
        if !is_question(&part) {
            return Ok(Transformed::no(part));
        }
        let columns = columns(&part)?;
        let column = if all_of(&columns, of_left) {
            left.column("left", part)
        } else if all_of(&columns, of_right) {
            right.column("right", part)
        } else {
            return Err(to_engine(Error::unsupported(
                "a subquery that depends on both sides of an outer join is not supported in its \
                 condition",
            )));
        };
        Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
    });
    part.map(|it| it.data)
}

fn with(asked: Asked, input: Arc<LogicalPlan>) -> Result<LogicalPlan> {
    match asked.is_empty() {
        true => Ok(Arc::unwrap_or_clone(input)),
        false => {
            let columns = asked.beside(input.schema());
            answered(LogicalPlan::Projection(Projection::try_new(columns, input)?))
        }
    }
}

fn all_of(columns: &[Column], schema: &DFSchema) -> bool {
    columns.iter().all(|column| schema.has_column(column))
}

/// What `expr` sees of the node's input, by itself and from within its subqueries.
fn columns(expr: &Expr) -> Result<Vec<Column>> {
    let mut all: Vec<Column> = expr.column_refs().into_iter().cloned().collect();
    expr.apply(|part| {
        if let Some(subquery) = subquery(part) {
            all.extend(correlated::outer_columns(&subquery.subquery)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(all)
}
