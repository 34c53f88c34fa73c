//! A subquery that is a value is NULL where it has no row.
//!
//! # Why
//! The engine takes whether such a value can be NULL from the subquery's column, and then knows, before it
//! looks, that `(SELECT id FROM t WHERE …) IS NULL` is false: rows that should not be, deletes that should
//! not be.
//! What it guarantees: of a subquery that may give no row, [`Maybe`] says that its value can be NULL.
//! What it does not: aggregates without groups give a row in any case.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Subquery, Volatility,
};

static MAYBE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(Maybe::default().into()));

/// `plan`, in which a value that may be missing can be NULL.
pub(super) fn can_be_null(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !crate::numeric::any(&plan, may_be_missing)? {
        return Ok(plan);
    }
    crate::numeric::rewrite(plan, &|expr, _| match may_be_missing(&expr) {
        true => {
            let maybe = ScalarFunction::new_udf(Arc::clone(&MAYBE), vec![expr]);
            Ok(Transformed::yes(Expr::ScalarFunction(maybe)))
        }
        false => Ok(Transformed::no(expr)),
    })
}

/// Whether `expr` is a value that may be missing. The engine may know of its column only later that it is
/// never NULL.
fn may_be_missing(expr: &Expr) -> bool {
    let Expr::ScalarSubquery(Subquery { subquery, .. }) = expr else { return false };
    !super::members::gives_one_row(subquery)
}

/// Its argument, of which it says that it can be NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Maybe {
    signature: Signature,
}

impl Default for Maybe {
    fn default() -> Self {
        Maybe { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Maybe {
    fn name(&self) -> &str {
        "maybe"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, of: &[DataType]) -> Result<DataType> {
        match of.first() {
            Some(of) => Ok(of.clone()),
            None => plan_err!("a value that may be missing has none"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match args.arg_fields.first() {
            Some(of) => Ok(Arc::new(of.as_ref().clone().with_nullable(true))),
            None => plan_err!("a value that may be missing has none"),
        }
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.pop() {
            Some(value) => Ok(value),
            None => plan_err!("a value that may be missing has none"),
        }
    }
}
