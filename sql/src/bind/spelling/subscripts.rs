//! Elements and slices of arrays, counted as PostgreSQL counts.
//!
//! # Why
//! To the engine the element before the first is the last one, and a slice has both of its bounds.
//! What it guarantees: there is nothing before 1: NULL for an element, and a slice begins there.
//! What it does not: a subscript that is written as a number from 1 on is not changed. An array has no other
//! lower bound than 1.

use sqlparser::ast::{AccessExpr, Expr, Subscript, Value};

use super::{called, number, strip};
use kho_catalog::error::Result;

/// Changes the subscripts after `root`.
pub(super) fn count_from_one(root: &mut Expr, access: &mut [AccessExpr]) -> Result<()> {
    // `(array_agg(x))[1]` is known for what it is without brackets.
    if let Expr::Nested(_) = root {
        *root = strip(root).clone();
    }
    for part in access {
        match part {
            AccessExpr::Subscript(Subscript::Index { index }) if !is_place(index) => {
                *index = called("greatest", [index.clone(), number("0")]);
            }
            AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, .. }) => {
                bound(lower_bound, "1")?;
                match upper_bound {
                    Some(_) => bound(upper_bound, "0")?,
                    None => *upper_bound = Some(number(&i32::MAX.to_string())),
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A bound that is no less than `least`, and is that where none is written.
fn bound(bound: &mut Option<Expr>, least: &str) -> Result<()> {
    *bound = Some(match bound.take() {
        None => number(least),
        Some(at) if is_place(&at) => at,
        // What is NULL stays so.
        Some(at) => crate::parse::expression(&format!(
            "(CASE WHEN ({at}) < {least} THEN {least} ELSE ({at}) END)"
        ))?,
    });
    Ok(())
}

/// Whether it is a number from 1 on, or the name of a struct's field.
fn is_place(index: &Expr) -> bool {
    match strip(index) {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.parse::<u64>().is_ok_and(|it| it > 0),
            Value::SingleQuotedString(_) => true,
            _ => false,
        },
        _ => false,
    }
}
