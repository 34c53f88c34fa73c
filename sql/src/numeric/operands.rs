//! Operators between types that PostgreSQL has no operator for.
//!
//! # Why
//! The engine compares a text column with a number by reading every text as a number, and fails at
//! the first that is none. PostgreSQL refuses the statement, whatever the data.

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;
use kho_catalog::error::{Error, Kind};

use crate::errors::to_engine;

/// Refuses text compared with a number (`42883`), and brings the others to one type as PostgreSQL
/// does; it runs before the engine makes types equal.
#[derive(Debug)]
pub(super) struct Operands;

impl AnalyzerRule for Operands {
    fn name(&self) -> &str {
        "kho_operands"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        super::rewrite(plan, &|expr, schema| {
            if let Expr::BinaryExpr(binary) = &expr
                && is_comparison(binary.op)
                && !is_literal(&binary.left)
                && !is_literal(&binary.right)
                && let (Ok(left), Ok(right)) =
                    (binary.left.get_type(schema), binary.right.get_type(schema))
                && (is_text(&left) && right.is_numeric() || left.is_numeric() && is_text(&right))
            {
                let name = |of: &DataType| if is_text(of) { "text" } else { "a number" };
                let (left, right) = (name(&left), name(&right));
                let message = format!("operator does not exist: {left} {} {right}", binary.op);
                return Err(to_engine(Error::new(Kind::UndefinedFunction, message).with_hint(
                    "No operator matches the given name and argument types. You might need to \
                     add explicit type casts.",
                )));
            }
            // What was bound without the types of its parameters has them now.
            super::alike::alike(expr, schema)
        })
    }
}

/// A quoted text has no type yet: it becomes what it is compared with.
fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.data_type().is_string() || value.is_null())
        || matches!(expr, Expr::Placeholder(_))
}

fn is_comparison(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

fn is_text(of: &DataType) -> bool {
    of.is_string()
}
