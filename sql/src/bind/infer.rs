//! The types that the engine leaves open when it plans, as PostgreSQL tells them.
//!
//! # Why
//! `id = ANY($1)` is how drivers pass a list. A client that does not state the type is asked for an
//! array of the type of `id`, not for text; one that writes `$1::integer`, for an integer. And the columns of `SELECT NULL UNION ALL SELECT 1` are
//! told to a client before the engine's analysis makes them integers.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::{NamePreserver, coerce_plan_expr_for_schema};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Union};
use datafusion::optimizer::analyzer::type_coercion::coerce_union_schema;
use kho_catalog::types::Type;

/// Gives parameters of `= ANY` the type of what they are compared with, those of casts the type that
/// they are cast to, and the parts of a union the types of the whole.
pub(super) fn infer(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut unions = false;
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Union(union) if differ(&union.inputs) => {
            unions = true;
            coerced(&crate::times::of_union(&union.inputs)?).map(Transformed::yes)
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

/// What is known of parameters, by their names.
type Known = HashMap<String, FieldRef>;

fn parameters(plan: LogicalPlan) -> Result<LogicalPlan> {
    if known(&plan, &mut Known::new())? {
        return Ok(plan);
    }
    let plan = stated_in(plan, &|expr, schema, _| infer_in(expr, schema), &Known::new())?;
    let mut fields = Known::new();
    known(&plan, &mut fields)?;
    cast(&plan, &mut fields)?;
    // A parameter is of one type, wherever it stands.
    stated_in(plan, &|expr, _, fields| again(expr, fields), &fields)
}

/// Gathers the parameters whose types are known; whether those of all are.
fn known(plan: &LogicalPlan, fields: &mut Known) -> Result<bool> {
    let mut all = true;
    each(plan, &mut |expr| {
        if let Expr::Placeholder(it) = expr {
            match &it.field {
                Some(field) => drop(fields.entry(it.id.clone()).or_insert(Arc::clone(field))),
                None => all = false,
            }
        }
    })?;
    Ok(all)
}

/// Adds the parameters that nothing is known of but what they are cast to.
fn cast(plan: &LogicalPlan, fields: &mut Known) -> Result<()> {
    each(plan, &mut |expr| {
        if let Expr::Cast(cast) = expr
            && let Expr::Placeholder(it) = cast.expr.as_ref()
        {
            fields.entry(it.id.clone()).or_insert_with(|| taken(&cast.field));
        }
    })
}

/// What is given to be cast to `of`: a length or a precision is of the cast alone.
fn taken(of: &FieldRef) -> FieldRef {
    match Type::from_field(of) {
        Some(Type::Varchar(_)) => Arc::new(Type::Text.to_field("", true)),
        _ => Arc::new(of.as_ref().clone().with_name("").with_nullable(true)),
    }
}

fn each(plan: &LogicalPlan, see: &mut dyn FnMut(&Expr)) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                see(expr);
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

fn again(expr: &mut Expr, fields: &Known) -> bool {
    let Expr::Placeholder(placeholder) = expr else { return false };
    match fields.get(&placeholder.id) {
        Some(field) if placeholder.field.is_none() => state(expr, Arc::clone(field)),
        _ => false,
    }
}

fn stated_in(
    plan: LogicalPlan,
    change: &dyn Fn(&mut Expr, &DFSchema, &Known) -> bool,
    fields: &Known,
) -> Result<LogicalPlan> {
    let inferred = plan.transform_up_with_subqueries(|node| {
        if matches!(node, LogicalPlan::TableScan(_)) {
            return Ok(Transformed::no(node));
        }
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|mut expr| {
                let changed = change(&mut expr, &schema, fields);
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
