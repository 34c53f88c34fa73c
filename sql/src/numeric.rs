//! Numbers as PostgreSQL computes them: no silent overflow, no silent truncation.
//!
//! # Why
//! The engine's integer `+ - *` and `sum` wrap around, and its casts to integers cut the fraction
//! off. Here integer arithmetic is checked (`22003`), `sum(bigint)` is numeric, and a cast to an
//! integer rounds, half away from zero for numeric and half to even for floats.
//! What it does not: floats overflow to infinity, as the engine has it.

mod checked;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Cast, Expr, ExprSchemable, LogicalPlan, Operator, WindowFunctionDefinition,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::Analyzer;

use checked::CheckedInteger;

/// A plan whose sums of bigint are numeric. It is applied as soon as a plan is made, so that what
/// uses a sum, and whoever is told the result's columns, sees the type that will come.
pub(crate) fn widen_sums(plan: LogicalPlan) -> Result<LogicalPlan> {
    WideSum.analyze(plan, &ConfigOptions::default())
}

/// Puts checked arithmetic and rounding casts into a session's analyzer, behind the coercion of
/// types, when every operand's type is known.
pub(crate) fn install(state: &mut SessionState) {
    let mut rules = Analyzer::new().rules;
    rules.push(Arc::new(CheckedArithmetic));
    let rebuilt =
        datafusion::execution::session_state::SessionStateBuilder::new_from_existing(state.clone())
            .with_analyzer_rules(rules)
            .build();
    *state = rebuilt;
}

/// `sum(bigint)` is numeric.
#[derive(Debug)]
struct WideSum;

impl AnalyzerRule for WideSum {
    fn name(&self) -> &str {
        "kho_wide_sum"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite(plan, &|expr, schema| match expr {
            Expr::AggregateFunction(AggregateFunction { func, mut params })
                if func.name() == "sum" && sums_bigint(&params.args, schema) =>
            {
                params.args = params.args.into_iter().map(widened).collect();
                Ok(Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params })))
            }
            Expr::WindowFunction(mut window) if is_window_sum(&window, schema) => {
                window.params.args = window.params.args.into_iter().map(widened).collect();
                Ok(Transformed::yes(Expr::WindowFunction(window)))
            }
            other => Ok(Transformed::no(other)),
        })
    }
}

/// Checked `+ - *` on integers, and casts that round.
#[derive(Debug)]
struct CheckedArithmetic;

impl AnalyzerRule for CheckedArithmetic {
    fn name(&self) -> &str {
        "kho_checked_arithmetic"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite(plan, &|expr, schema| match expr {
            Expr::BinaryExpr(binary)
                if matches!(binary.op, Operator::Plus | Operator::Minus | Operator::Multiply)
                    && binary.left.get_type(schema)?.is_signed_integer()
                    && binary.right.get_type(schema)?.is_signed_integer() =>
            {
                let function = CheckedInteger::of(binary.op);
                Ok(Transformed::yes(call(function, vec![*binary.left, *binary.right])))
            }
            Expr::Negative(inner) if inner.get_type(schema)?.is_signed_integer() => {
                Ok(Transformed::yes(call(CheckedInteger::negate(), vec![*inner])))
            }
            Expr::Cast(cast)
                if cast.field.data_type().is_signed_integer()
                    && has_fraction(&cast.expr.get_type(schema)?) =>
            {
                let rounded = call(CheckedInteger::round(), vec![*cast.expr]);
                Ok(Transformed::yes(Expr::Cast(Cast::new_from_field(
                    Box::new(rounded),
                    cast.field,
                ))))
            }
            other => Ok(Transformed::no(other)),
        })
    }
}

type Rule<'a> = &'a dyn Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>;

/// Applies `rule` to every expression of the plan, subqueries included; columns keep their names.
fn rewrite(plan: LogicalPlan, rule: Rule<'_>) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        // Files are pruned by a scan's filters as they are; they are also in a filter above.
        if matches!(node, LogicalPlan::TableScan(_)) {
            return Ok(Transformed::no(node));
        }
        let mut schema = merge_schema(&node.inputs());
        if let LogicalPlan::Values(values) = &node {
            schema.merge(&values.schema);
        }
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| rule(expr, &schema))?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })?;
        node.map_data(if_changed)
    })?;
    Ok(plan.data)
}

fn if_changed(node: LogicalPlan) -> Result<LogicalPlan> {
    node.recompute_schema()
}

fn call(function: CheckedInteger, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function.into()), args))
}

fn widened(expr: Expr) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), DataType::Decimal128(19, 0)))
}

fn sums_bigint(args: &[Expr], schema: &DFSchema) -> bool {
    let wide = |of: DataType| matches!(of, DataType::Int64 | DataType::UInt64);
    args.first().and_then(|arg| arg.get_type(schema).ok()).is_some_and(wide)
}

fn is_window_sum(window: &WindowFunction, schema: &DFSchema) -> bool {
    let sum =
        matches!(&window.fun, WindowFunctionDefinition::AggregateUDF(it) if it.name() == "sum");
    sum && sums_bigint(&window.params.args, schema)
}

fn has_fraction(of: &DataType) -> bool {
    of.is_floating() || matches!(of, DataType::Decimal128(_, scale) if *scale > 0)
}
