//! Parameters whose type the engine's planner must know before it plans.
//!
//! # Why
//! It takes a parameter of which nothing is known for a NULL, of which there is no sum.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use sqlparser::ast;

use super::parameters::guess;

/// Functions of numbers of any kind.
const OF_NUMBERS: &[&str] = &["sum", "avg"];

/// The fields of a statement's parameters, with those added that its text tells.
pub(in crate::bind) fn told(
    statement: &ast::Statement,
    parameters: &[Option<FieldRef>],
) -> Vec<Option<FieldRef>> {
    let mut told = parameters.to_vec();
    let mut add = |number: usize, field: FieldRef| {
        if told.len() <= number {
            told.resize(number + 1, None);
        }
        if let Some(place) = told.get_mut(number) {
            place.get_or_insert(field);
        }
    };
    let _ = ast::visit_expressions(statement, |expr| {
        match expr {
            ast::Expr::Function(function) => {
                if let Some(number) = number_added_up(function) {
                    add(number, guess(DataType::Float64));
                }
            }
            ast::Expr::BinaryOp { left, op: ast::BinaryOperator::StringConcat, right } => {
                if let (Some(left), Some(right)) = (parameter(left), parameter(right)) {
                    let text = Arc::new(Field::new("", DataType::Utf8, true));
                    add(left, Arc::clone(&text));
                    add(right, text);
                }
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    told
}

/// Which parameter is all that is added up.
fn number_added_up(function: &ast::Function) -> Option<usize> {
    let name = function.name.0.last()?.as_ident()?.value.to_ascii_lowercase();
    let ast::FunctionArguments::List(list) = &function.args else { return None };
    match list.args.as_slice() {
        [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument))]
            if OF_NUMBERS.contains(&name.as_str()) =>
        {
            parameter(argument)
        }
        _ => None,
    }
}

/// The place of a parameter, where an expression is one.
fn parameter(expr: &ast::Expr) -> Option<usize> {
    let ast::Expr::Value(value) = expr else { return None };
    let ast::Value::Placeholder(name) = &value.value else { return None };
    let number: usize = name.strip_prefix('$')?.parse().ok()?;
    // A statement has no more of them on either wire.
    number.checked_sub(1).filter(|place| *place < usize::from(u16::MAX))
}
