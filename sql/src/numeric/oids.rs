//! Oids beside other whole numbers, in `CASE` and the functions that give one of their arguments.
//!
//! What it guarantees: as in PostgreSQL the result is an oid. It is made so when the plan is made,
//! so that what a client is told of a column is what comes.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Case, Cast, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable};

/// Functions that give one of their arguments.
const CHOOSING: [&str; 3] = ["coalesce", "greatest", "least"];

pub(super) fn beside(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let chosen = chosen(&mut expr);
    let type_of = |expr: &Expr| expr.get_type(schema).ok();
    if !chosen.iter().any(|expr| type_of(expr) == Some(DataType::UInt32)) {
        return Ok(Transformed::no(expr));
    }
    for one in chosen {
        if matches!(type_of(one), Some(DataType::Int16 | DataType::Int32 | DataType::Int64)) {
            let number = std::mem::take(one);
            *one = Expr::Cast(Cast::new(Box::new(number), DataType::UInt32));
        }
    }
    Ok(Transformed::yes(expr))
}

/// Those of which the result is one.
fn chosen(expr: &mut Expr) -> Vec<&mut Expr> {
    match expr {
        Expr::Case(Case { when_then_expr, else_expr, .. }) => {
            let then = when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
            then.chain(else_expr.iter_mut().map(AsMut::as_mut)).collect()
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if CHOOSING.contains(&func.name()) => {
            args.iter_mut().collect()
        }
        _ => Vec::new(),
    }
}
