//! What an expression says of the parameters in it, where the engine's planner has not said it.
//!
//! # Why
//! `id = ANY($1)` is how drivers pass a list: a client that does not state the type is asked for an
//! array of the type of `id`, not for text. The same goes for `coalesce(id, $1)`, `LIMIT $1` and `WHERE $1`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, WindowFunctionDefinition};
use datafusion::scalar::ScalarValue;

use super::functions;
use super::parameters::{is_untold, plain};

/// Functions whose arguments are of one type.
const OF_ONE_TYPE: &[&str] = &["coalesce", "nullif", "greatest", "least", "nvl", "make_array"];
/// Functions of a list and then elements of it.
const OF_ELEMENTS: &[&str] =
    &["array_append", "array_position", "array_positions", "array_remove", "array_replace"];

/// The type of a parameter that is all of an expression of `node`.
pub(super) fn of_node(node: &LogicalPlan) -> Option<FieldRef> {
    let of = match node {
        LogicalPlan::Limit(_) => DataType::Int64,
        LogicalPlan::Filter(_) => DataType::Boolean,
        _ => return None,
    };
    Some(field(of))
}

/// States what `expr` says of the parameters that are its parts; whether it says something.
pub(super) fn tell(expr: &mut Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Not(inner) => state(inner, &field(DataType::Boolean)),
        Expr::Case(case) => of_case(case, schema),
        Expr::Between(it) => alike(vec![&mut it.expr, &mut it.low, &mut it.high], schema),
        Expr::InList(it) => {
            alike(std::iter::once(it.expr.as_mut()).chain(&mut it.list).collect(), schema)
        }
        Expr::Like(it) | Expr::SimilarTo(it) => alike(vec![&mut it.expr, &mut it.pattern], schema),
        Expr::ScalarFunction(call) => of_call(call, schema),
        Expr::AggregateFunction(call) => {
            let function = Arc::clone(&call.func);
            functions::tell(function.as_ref(), &mut call.params.args, schema)
        }
        Expr::WindowFunction(call) => {
            let arguments = &mut call.params.args;
            match &call.fun {
                WindowFunctionDefinition::AggregateUDF(function) => {
                    functions::tell(function.as_ref(), arguments, schema)
                }
                WindowFunctionDefinition::WindowUDF(function) => {
                    functions::tell(function.as_ref(), arguments, schema)
                }
            }
        }
        _ => false,
    }
}

/// States the type of a parameter of which nothing is known.
pub(super) fn state(expr: &mut Expr, field: &FieldRef) -> bool {
    match expr {
        Expr::Placeholder(it) if is_untold(it) => {
            it.field = Some(Arc::clone(field));
            true
        }
        _ => false,
    }
}

pub(super) fn is_parameter(expr: &Expr) -> bool {
    matches!(expr, Expr::Placeholder(it) if is_untold(it))
}

fn field(of: DataType) -> FieldRef {
    Arc::new(Field::new("", of, true))
}

/// The type of an expression, as a parameter has it; `None` where it has none yet.
pub(super) fn known(expr: &Expr, schema: &DFSchema) -> Option<FieldRef> {
    if let Expr::Literal(ScalarValue::Int64(Some(number)), _) = expr
        && i32::try_from(*number).is_ok()
    {
        return Some(field(DataType::Int32));
    }
    let (_, field) = expr.to_field(schema).ok()?;
    (!field.data_type().is_null()).then(|| plain(&field.as_ref().clone().with_name("").into()))
}

/// Parameters among `operands` are of the type of the first whose type is known.
fn alike(operands: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    if !operands.iter().any(|operand| is_parameter(operand)) {
        return false;
    }
    let Some(of) = operands.iter().find_map(|operand| known(operand, schema)) else {
        return false;
    };
    any(operands.into_iter().map(|operand| state(operand, &of)))
}

fn of_case(case: &mut Case, schema: &DFSchema) -> bool {
    let mut conditions: Vec<&mut Expr> = Vec::new();
    let mut results: Vec<&mut Expr> = Vec::new();
    for (when, then) in &mut case.when_then_expr {
        conditions.push(when);
        results.push(then);
    }
    results.extend(case.else_expr.as_deref_mut());
    let told = match case.expr.as_deref_mut() {
        Some(compared) => {
            conditions.insert(0, compared);
            alike(conditions, schema)
        }
        None => {
            let truth = field(DataType::Boolean);
            any(conditions.into_iter().map(|condition| state(condition, &truth)))
        }
    };
    alike(results, schema) || told
}

fn of_call(call: &mut ScalarFunction, schema: &DFSchema) -> bool {
    if !call.args.iter().any(is_parameter) {
        return false;
    }
    let name = call.func.name();
    if OF_ONE_TYPE.contains(&name) {
        return alike(call.args.iter_mut().collect(), schema);
    }
    // The engine's form of `one = ANY (many)` is a call of `array_has`.
    if (name == "array_has" || OF_ELEMENTS.contains(&name))
        && let Some((list, elements)) = call.args.split_first_mut()
    {
        return of_list(list, elements, schema);
    }
    let function = Arc::clone(&call.func);
    functions::tell(function.as_ref(), &mut call.args, schema)
}

fn of_list(list: &mut Expr, elements: &mut [Expr], schema: &DFSchema) -> bool {
    if is_parameter(list) {
        let element = elements.iter().find_map(|element| known(element, schema));
        return element.is_some_and(|element| state(list, &list_of(&element)));
    }
    let Some(of) = known(list, schema) else { return false };
    let DataType::List(element) = of.data_type() else { return false };
    let element = plain(element);
    any(elements.iter_mut().map(|it| state(it, &element)))
}

/// Whether one of them is true, each of which is found out.
fn any(all: impl Iterator<Item = bool>) -> bool {
    all.filter(|it| *it).count() > 0
}

fn list_of(element: &Field) -> FieldRef {
    let element = element.clone().with_name("element").with_nullable(true);
    field(DataType::List(Arc::new(element)))
}
