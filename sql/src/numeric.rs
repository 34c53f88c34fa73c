//! Numbers as PostgreSQL computes them: no silent overflow, no silent truncation.
//!
//! # Why
//! The engine's integer `+ - *` and `sum` wrap around, its floats overflow to infinity, and its
//! casts to integers cut the fraction off. Here arithmetic is checked (`22003`, `22012`),
//! `sum(bigint)` is numeric, and a cast to an integer rounds, half away from zero for numeric and
//! half to even for floats. Quotients and averages of numerics are rounded, to many digits. A whole
//! number is an integer, or a bigint where it is too large. What is compared, or one of which is chosen,
//! is brought to the type that PostgreSQL brings it to.

mod alike;
mod average;
mod checked;
mod common;
mod digits;
mod extreme;
mod oids;
mod operands;
mod planner;
mod recursion;
mod spans;
#[cfg(test)]
mod tests;
mod typed;
mod whole;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Cast, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, WindowFunctionDefinition,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::Analyzer;

use checked::Checked;
pub(crate) use common::is_span;
use kho_catalog::table::FILE_COLUMN;
pub(crate) use typed::union_alike;

/// A plan whose expressions have PostgreSQL's types: whole numbers are integers where they fit, what
/// stands beside each other is of one type, sums of bigint are numeric and the result has no unsigned
/// numbers but oids, which PostgreSQL lacks. It is applied as soon as a plan is made, so that whoever
/// is told the result's columns sees the types that will come.
pub(crate) fn type_as_postgres(plan: LogicalPlan) -> Result<LogicalPlan> {
    signed_result(typed::typed(plan)?)
}

/// Unsigned columns of the result (`row_number()`, `cardinality()`) as bigint.
fn signed_result(plan: LogicalPlan) -> Result<LogicalPlan> {
    // One kind is PostgreSQL's too: an oid.
    let unsigned = |of: &DataType| of.is_unsigned_integer() && *of != DataType::UInt32;
    // The places of rows to be changed are ours, and no client sees them.
    let placed = plan.schema().has_column_with_unqualified_name(FILE_COLUMN);
    let is_query = !matches!(plan, LogicalPlan::Dml(_) | LogicalPlan::Statement(_));
    if !is_query
        || placed
        || !plan.schema().fields().iter().any(|field| unsigned(field.data_type()))
    {
        return Ok(plan);
    }
    let columns: Vec<Expr> = (plan.schema().iter())
        .map(|(relation, field)| {
            let column = Expr::Column(Column::new(relation.cloned(), field.name()));
            match unsigned(field.data_type()) {
                true => Expr::Cast(Cast::new(Box::new(column), DataType::Int64))
                    .alias_qualified(relation.cloned(), field.name()),
                false => column,
            }
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// Puts checked arithmetic and rounding casts into a session's analyzer, behind the coercion of
/// types, when every operand's type is known.
pub(crate) fn install(state: &mut SessionState) {
    let mut rules = Analyzer::new().rules;
    rules.insert(0, Arc::new(operands::Operands));
    rules.push(Arc::new(CheckedArithmetic));
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(planner::Spans)];
    planners.extend(state.expr_planners().iter().cloned());
    let rebuilt =
        datafusion::execution::session_state::SessionStateBuilder::new_from_existing(state.clone())
            .with_analyzer_rules(rules)
            .with_expr_planners(planners)
            .build();
    *state = rebuilt;
}

/// `sum(bigint)` is numeric.
fn wide_sum(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::AggregateFunction(AggregateFunction { func, mut params })
            if func.name() == "sum" && sums_bigint(&params.args, schema) =>
        {
            params.args = params.args.into_iter().map(widened).collect();
            Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params }))
        }
        Expr::WindowFunction(mut window) if is_window_sum(&window, schema) => {
            window.params.args = window.params.args.into_iter().map(widened).collect();
            Transformed::yes(Expr::WindowFunction(window))
        }
        other => Transformed::no(other),
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
                if is_checked(
                    binary.op,
                    &binary.left.get_type(schema)?,
                    &binary.right.get_type(schema)?,
                ) =>
            {
                let function = Checked::of(binary.op);
                Ok(Transformed::yes(call(function, vec![*binary.left, *binary.right])))
            }
            Expr::Negative(inner) if inner.get_type(schema)?.is_signed_integer() => {
                Ok(Transformed::yes(call(Checked::negate(), vec![*inner])))
            }
            // Of floats PostgreSQL's is the one that casts do, too: half to even.
            Expr::ScalarFunction(mut it)
                if it.func.name() == "round"
                    && let [of] = it.args.as_slice()
                    && of.get_type(schema)?.is_floating() =>
            {
                it.func = Arc::new(Checked::round().into());
                Ok(Transformed::yes(Expr::ScalarFunction(it)))
            }
            Expr::Cast(cast)
                if cast.field.data_type().is_signed_integer()
                    && has_fraction(&cast.expr.get_type(schema)?) =>
            {
                let rounded = call(Checked::round(), vec![*cast.expr]);
                Ok(Transformed::yes(Expr::Cast(Cast::new_from_field(
                    Box::new(rounded),
                    cast.field,
                ))))
            }
            // A cast to a named field says itself whether it can be NULL; the planner of the engine
            // asks what is cast, and refuses a plan in which the two differ.
            Expr::Cast(cast) if !cast.field.name().is_empty() => {
                let nullable = cast.expr.nullable(schema)?;
                let field = cast.field.as_ref().clone().with_nullable(nullable);
                Ok(Transformed::yes(Expr::Cast(Cast::new_from_field(cast.expr, Arc::new(field)))))
            }
            other => Ok(Transformed::no(other)),
        })
    }
}

pub(crate) type Rule<'a> = &'a dyn Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>;

/// Applies `rule` to every expression of the plan, subqueries included; columns keep their names.
pub(crate) fn rewrite(plan: LogicalPlan, rule: Rule<'_>) -> Result<LogicalPlan> {
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

/// Whether `is_one` holds for any expression in `plan`, in its subqueries too.
pub(crate) fn any(plan: &LogicalPlan, is_one: impl Fn(&Expr) -> bool) -> Result<bool> {
    let mut any = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            any = any || expr.exists(|part| Ok(is_one(part)))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if any { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(any)
}

fn if_changed(node: LogicalPlan) -> Result<LogicalPlan> {
    node.recompute_schema()
}

/// Whether the engine would compute this and not raise what PostgreSQL raises. It checks decimals, but
/// for those of [`digits`], and the division of integers itself.
fn is_checked(operator: Operator, left: &DataType, right: &DataType) -> bool {
    let arithmetic = matches!(operator, Operator::Plus | Operator::Minus | Operator::Multiply);
    let integers = left.is_signed_integer() && right.is_signed_integer();
    let floats = left.is_floating() && right.is_floating();
    left == right
        && (arithmetic && integers || (arithmetic || operator == Operator::Divide) && floats)
}

fn call(function: Checked, args: Vec<Expr>) -> Expr {
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
