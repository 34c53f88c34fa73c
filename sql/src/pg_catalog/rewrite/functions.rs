//! Function calls: `pg_catalog.`-qualified names, and those of PostgreSQL's functions that are
//! another expression here.

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, ObjectNamePart,
};

use super::literals::{cast, number, text};
use super::{call, casts, literals, subqueries};

/// Rewrites a call. `vector` says that its first argument is one of the system tables' vectors,
/// which are counted from 0; `system` that the query reads system tables alone.
pub fn rewrite(expr: &mut Expr, vector: bool, system: bool) {
    let Expr::Function(function) = expr else {
        return;
    };
    unqualify(&mut function.name.0);
    let Some(name) = simple_name(function) else {
        return;
    };
    if let FunctionArguments::Subquery(_) = function.args {
        if name == "array" {
            subqueries::array(expr);
        }
        return;
    }
    let arguments = arguments(function);
    match (name.as_str(), arguments.as_slice()) {
        ("array_upper", [array, dimension]) => *expr = upper(array, dimension, vector),
        ("array_lower", [array, dimension]) => *expr = lower(array, dimension, vector),
        ("generate_subscripts", [array, dimension]) => {
            let last = upper(array, dimension, vector);
            let first = number(i64::from(!vector));
            *expr = call("unnest", vec![series(first, last)]);
        }
        // A row (x, n) for each element x at position n.
        ("_pg_expandarray", [array]) => {
            let positions = series(number(1), upper(array, &number(1), false));
            let row = vec![
                text("x"),
                call("unnest", vec![array.clone()]),
                text("n"),
                call("unnest", vec![positions]),
            ];
            *expr = call("named_struct", row);
        }
        ("coalesce", _) if system => literals::empty_arrays(function),
        ("format", _) => show_arguments(function),
        _ => {}
    }
}

/// The first argument of a call.
pub fn first_argument(expr: &Expr) -> Option<&Expr> {
    let Expr::Function(function) = expr else {
        return None;
    };
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    match list.args.first()? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// Takes the system schema's name off; functions are found by their own name alone.
pub fn unqualify(parts: &mut Vec<ObjectNamePart>) {
    let [schema, name] = parts.as_slice() else {
        return;
    };
    let (Some(schema), Some(name)) = (schema.as_ident(), name.as_ident()) else {
        return;
    };
    let schema = super::fold(schema);
    if schema == "pg_catalog" || (schema == "information_schema" && name.value.starts_with('_')) {
        *parts = vec![ObjectNamePart::Identifier(Ident::new(super::fold(name)))];
    }
}

fn simple_name(function: &Function) -> Option<String> {
    match function.name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => Some(super::fold(name)),
        _ => None,
    }
}

fn arguments(function: &Function) -> Vec<Expr> {
    let FunctionArguments::List(list) = &function.args else {
        return Vec::new();
    };
    let plain = |it: &FunctionArg| match it {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().filter_map(plain).collect()
}

/// A `regclass` and its like among the arguments of a function on texts is its name.
fn show_arguments(function: &mut Function) {
    if let FunctionArguments::List(list) = &mut function.args {
        for argument in &mut list.args {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
                casts::show(expr);
            }
        }
    }
}

/// Subscripts, which are integers.
fn series(first: Expr, last: Expr) -> Expr {
    let series = call("generate_series", vec![first, last]);
    cast(series, literals::array_of(DataType::Integer(None)))
}

/// The last subscript: NULL for an empty array.
fn upper(array: &Expr, dimension: &Expr, vector: bool) -> Expr {
    let length = call("array_length", vec![array.clone(), dimension.clone()]);
    let length = cast(length, DataType::Integer(None));
    let upper = call("nullif", vec![length, number(0)]);
    if !vector {
        return upper;
    }
    Expr::BinaryOp { left: Box::new(upper), op: BinaryOperator::Minus, right: Box::new(number(1)) }
}

/// The first subscript: NULL for an empty array.
fn lower(array: &Expr, dimension: &Expr, vector: bool) -> Expr {
    let upper = upper(array, dimension, false);
    call("least", vec![upper.clone(), number(i64::from(!vector))])
}
