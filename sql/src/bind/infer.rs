//! The types that the engine leaves open when it plans, as PostgreSQL tells them.
//!
//! # Why
//! `id = ANY($1)` is how drivers pass a list. A client that does not state the type is asked for an
//! array of the type of `id`, not for text. And the columns of `SELECT NULL UNION ALL SELECT 1` are
//! told to a client before the engine's analysis makes them integers.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::{NamePreserver, coerce_plan_expr_for_schema};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Union};
use datafusion::optimizer::analyzer::type_coercion::coerce_union_schema;

/// Gives parameters of `= ANY` the type of what they are compared with, and the parts of a union
/// the types of the whole.
pub(super) fn infer(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut unions = false;
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Union(union) if differ(&union.inputs) => {
            unions = true;
            coerced(&union.inputs).map(Transformed::yes)
        }
        other if unions => other.recompute_schema().map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    })?;
    parameters(plan.data)
}

fn differ(inputs: &[Arc<LogicalPlan>]) -> bool {
    let types = |plan: &LogicalPlan| -> Vec<DataType> {
        plan.schema().fields().iter().map(|field| field.data_type().clone()).collect()
    };
    inputs.windows(2).any(|two| matches!(two, [one, other] if types(one) != types(other)))
}

fn coerced(inputs: &[Arc<LogicalPlan>]) -> Result<LogicalPlan> {
    let schema = Arc::new(coerce_union_schema(inputs)?);
    let inputs = inputs
        .iter()
        .map(|input| coerce_plan_expr_for_schema(input.as_ref().clone(), &schema).map(Arc::new));
    Ok(LogicalPlan::Union(Union { inputs: inputs.collect::<Result<Vec<_>>>()?, schema }))
}

fn parameters(plan: LogicalPlan) -> Result<LogicalPlan> {
    let inferred = plan.transform_up_with_subqueries(|node| {
        if matches!(node, LogicalPlan::TableScan(_)) {
            return Ok(Transformed::no(node));
        }
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|mut expr| {
                let changed = infer_in(&mut expr, &schema);
                Ok(Transformed::new_transformed(expr, changed))
            })?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })
    });
    inferred.map(|plan| plan.data)
}

/// The engine's form of `one = ANY (many)`.
fn infer_in(expr: &mut Expr, schema: &DFSchema) -> bool {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return false };
    let [many, one] = args.as_mut_slice() else { return false };
    if func.name() != "array_has" {
        return false;
    }
    let field = |expr: &Expr| expr.to_field(schema).map(|(_, field)| field);
    if is_open(many) {
        return match field(one) {
            Ok(one) => state(many, list_of(&one)),
            Err(_) => false,
        };
    }
    match field(many).as_deref().map(Field::data_type) {
        Ok(DataType::List(element)) if is_open(one) => {
            let element = Arc::clone(element);
            state(one, element)
        }
        _ => false,
    }
}

fn list_of(element: &Field) -> FieldRef {
    let element = element.clone().with_name("element").with_nullable(true);
    Arc::new(Field::new("", DataType::List(Arc::new(element)), true))
}

fn is_open(expr: &Expr) -> bool {
    matches!(expr, Expr::Placeholder(placeholder) if placeholder.field.is_none())
}

fn state(expr: &mut Expr, field: FieldRef) -> bool {
    match expr {
        Expr::Placeholder(placeholder) => {
            placeholder.field = Some(field);
            true
        }
        _ => false,
    }
}
