//! Operators that the engine's planner refuses before types are looked at.
//!
//! What it guarantees: a span of time is multiplied and divided by a number, and a quoted literal
//! beside an interval is one.
//! What it does not: everything else is left to the pass over the finished plan.

use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator};
use sqlparser::ast::BinaryOperator;

use super::alike::quoted;
use super::common::{INTERVAL, is_span};
use super::spans;

/// Plans what stands beside a span of time.
#[derive(Debug)]
pub(super) struct Spans;

impl ExprPlanner for Spans {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let operator = match expr.op {
            BinaryOperator::Multiply => Operator::Multiply,
            BinaryOperator::Divide => Operator::Divide,
            BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq => return Ok(PlannerResult::Original(beside(expr, schema))),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema))
        else {
            return Ok(PlannerResult::Original(expr));
        };
        let RawBinaryExpr { op, left: one, right: other } = expr;
        Ok(if is_span(&left) && right.is_numeric() {
            PlannerResult::Planned(spans::scaled(one, operator, other, schema))
        } else if operator == Operator::Multiply && left.is_numeric() && is_span(&right) {
            PlannerResult::Planned(spans::scaled(other, operator, one, schema))
        } else {
            PlannerResult::Original(RawBinaryExpr { op, left: one, right: other })
        })
    }
}

/// A quoted literal beside an interval is an interval, but for what is added to a day or a moment.
fn beside(mut expr: RawBinaryExpr, schema: &DFSchema) -> RawBinaryExpr {
    let is_interval = |expr: &Expr| expr.get_type(schema).is_ok_and(|of| is_span(&of));
    if quoted(&expr.left).is_some() && is_interval(&expr.right) {
        expr.left = super::alike::cast(expr.left, &INTERVAL, schema);
    } else if quoted(&expr.right).is_some() && is_interval(&expr.left) {
        expr.right = super::alike::cast(expr.right, &INTERVAL, schema);
    }
    expr
}
