//! Semi and anti joins, moved down to the relation that they ask about.
//!
//! # Why
//! `WHERE o_orderkey IN (SELECT …)` over joined tables is a semi join above the joins: every row is
//! joined, put into a hash table, and thrown away. Beside the one relation that has the column, it
//! throws away before anything is joined.
//! What it guarantees: the rows are the same. Only joins by equal columns move, and only below inner
//! joins, where a row of one input is kept or not whatever it is joined with. A column may be replaced
//! by one of the same type that an inner join makes equal to it.
//! What it does not: where the relation is not known to have fewer rows than what is joined, or a
//! condition is more than equal columns, the join stays where it is: it might be asked of more rows,
//! and fail for one that was never there.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, ExprSchema as _, JoinType, NullEquality, Result};
use datafusion::logical_expr::{Expr, Join, LogicalPlan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::{estimate, inner_join, is_joined};

/// The relation has at most this part of the rows that are joined.
const WORTH_IT: f64 = 0.7;

/// Moves semi and anti joins of more rows than `least_rows`.
#[derive(Debug)]
pub(crate) struct SemiJoins {
    pub least_rows: f64,
}

impl OptimizerRule for SemiJoins {
    fn name(&self) -> &str {
        "kho_semi_joins"
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(|node| self.moved(node))
    }
}

impl SemiJoins {
    fn moved(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = &node else { return Ok(Transformed::no(node)) };
        let (Some(keys), Some(rows)) = (keys(join), estimate::rows(&join.left)) else {
            return Ok(Transformed::no(node));
        };
        if rows < self.least_rows {
            return Ok(Transformed::no(node));
        }
        let moving = Moving { join, most_rows: rows * WORTH_IT };
        match moving.below(&join.left, &keys)? {
            Some(plan) => Ok(Transformed::yes(plan)),
            None => Ok(Transformed::no(node)),
        }
    }
}

/// The columns of its left side that a semi or anti join asks for, where it asks for nothing else.
fn keys(join: &Join) -> Option<Vec<Column>> {
    let kind = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti);
    if !kind || join.null_aware || join.filter.is_some() || join.on.is_empty() {
        return None;
    }
    let column = |expr: &Expr| match expr {
        Expr::Column(column) => Some(column.clone()),
        _ => None,
    };
    join.on.iter().map(|(left, _)| column(left)).collect()
}

/// A join on its way down.
struct Moving<'a> {
    join: &'a Join,
    most_rows: f64,
}

impl Moving<'_> {
    /// `plan` with the join somewhere in it; `None` where that would be no gain.
    fn below(&self, plan: &Arc<LogicalPlan>, keys: &[Column]) -> Result<Option<LogicalPlan>> {
        if let LogicalPlan::Projection(it) = plan.as_ref()
            && is_joined(plan)
        {
            return match self.below(&it.input, keys)? {
                Some(input) => plan.with_new_exprs(it.expr.clone(), vec![input]).map(Some),
                None => Ok(None),
            };
        }
        // One whose equalities are not found out yet is looked at again when they are.
        let Some(inner) = inner_join(plan).filter(|it| !it.on.is_empty()) else { return Ok(None) };
        let mut best: Option<(f64, bool, Vec<Column>)> = None;
        for (input, is_left) in [(&inner.left, true), (&inner.right, false)] {
            let found = keys.iter().map(|key| column_in(input, inner, key));
            let (Some(keys), Some(rows)) = (found.collect(), estimate::rows(input)) else {
                continue;
            };
            if best.as_ref().is_none_or(|(least, ..)| rows < *least) {
                best = Some((rows, is_left, keys));
            }
        }
        let Some((rows, is_left, keys)) = best else { return Ok(None) };
        let input = if is_left { &inner.left } else { &inner.right };
        let moved = match self.below(input, &keys)? {
            Some(deeper) => deeper,
            None if rows <= self.most_rows => self.beside(input, keys)?,
            None => return Ok(None),
        };
        let (left, right) = match is_left {
            true => (Arc::new(moved), Arc::clone(&inner.right)),
            false => (Arc::clone(&inner.left), Arc::new(moved)),
        };
        let joined = Join::try_new(
            left,
            right,
            inner.on.clone(),
            inner.filter.clone(),
            inner.join_type,
            inner.join_constraint,
            inner.null_equality,
            inner.null_aware,
        )?;
        Ok(Some(LogicalPlan::Join(joined)))
    }

    fn beside(&self, input: &Arc<LogicalPlan>, keys: Vec<Column>) -> Result<LogicalPlan> {
        let others = self.join.on.iter().map(|(_, other)| other.clone());
        let on = keys.into_iter().map(Expr::Column).zip(others).collect();
        let joined = Join::try_new(
            Arc::clone(input),
            Arc::clone(&self.join.right),
            on,
            None,
            self.join.join_type,
            self.join.join_constraint,
            self.join.null_equality,
            self.join.null_aware,
        )?;
        Ok(LogicalPlan::Join(joined))
    }
}

/// The column of `input` that is `key`, or that `inner` makes equal to it.
fn column_in(input: &LogicalPlan, inner: &Join, key: &Column) -> Option<Column> {
    if input.schema().has_column(key) {
        return Some(key.clone());
    }
    if inner.null_equality != NullEquality::NullEqualsNothing {
        return None;
    }
    inner.on.iter().find_map(|pair| {
        let (Expr::Column(one), Expr::Column(other)) = pair else { return None };
        let other = match key {
            key if key == one => other,
            key if key == other => one,
            _ => return None,
        };
        let wanted = inner.schema.field_from_column(key).ok()?.data_type().clone();
        let data_type = input.schema().field_from_column(other).ok()?.data_type();
        // Floats that are equal can be two values.
        (*data_type == wanted && !wanted.is_floating()).then(|| other.clone())
    })
}
