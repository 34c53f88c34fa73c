//! Days beside times: a comparison of a column of days with a constant time, as one of days.
//!
//! # Why
//! A day plus a span of time is a timestamp, as in PostgreSQL, and `d < DATE '1995-01-01' + INTERVAL '1
//! month'` makes a timestamp of each day that is looked at. No file is passed over by it then.
//! What it guarantees: the same rows, for every day and every time.
//! What it does not: equality with a time that is no midnight stays as it is.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::scalar::ScalarValue;

use arrow::datatypes::DataType;

const DAY_US: i64 = 86_400_000_000;

/// Compares days with days.
#[derive(Debug)]
pub(crate) struct Days;

impl OptimizerRule for Days {
    fn name(&self) -> &str {
        "kho_days"
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
        if !matches!(plan, LogicalPlan::Filter(_) | LogicalPlan::Join(_)) {
            return Ok(Transformed::no(plan));
        }
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|part| {
                let days = match &part {
                    Expr::BinaryExpr(it) => of_days(it, |day| {
                        day.get_type(&schema).is_ok_and(|of| of == DataType::Date32)
                    }),
                    _ => None,
                };
                Ok(days.map_or_else(|| Transformed::no(part), Transformed::yes))
            })?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })
    }
}

/// `comparison` in days, where it is one of a day and a constant.
fn of_days(comparison: &BinaryExpr, is_day: impl Fn(&Expr) -> bool) -> Option<Expr> {
    let BinaryExpr { left, op, right } = comparison;
    let (cast, op, time) = match (left.as_ref(), right.as_ref()) {
        (Expr::Cast(cast), Expr::Literal(time, _)) => (cast, *op, time),
        (Expr::Literal(time, _), Expr::Cast(cast)) => (cast, op.swap()?, time),
        _ => return None,
    };
    let is_clock = matches!(cast.field.data_type(), DataType::Timestamp(_, None));
    if !is_clock || !is_day(&cast.expr) {
        return None;
    }
    let us = match time {
        ScalarValue::TimestampMicrosecond(Some(us), None) => *us,
        ScalarValue::TimestampNanosecond(Some(ns), None) if ns % 1000 == 0 => ns / 1000,
        _ => return None,
    };
    let day = i32::try_from(us.div_euclid(DAY_US)).ok()?;
    let op = match (us.rem_euclid(DAY_US), op) {
        (0, Operator::Eq | Operator::NotEq) => op,
        (0, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq) => op,
        // The day itself begins before that time.
        (_, Operator::Lt | Operator::LtEq) => Operator::LtEq,
        (_, Operator::Gt | Operator::GtEq) => Operator::Gt,
        _ => return None,
    };
    let day = Box::new(Expr::Literal(ScalarValue::Date32(Some(day)), None));
    Some(Expr::BinaryExpr(BinaryExpr { left: cast.expr.clone(), op, right: day }))
}

#[cfg(test)]
mod tests;
