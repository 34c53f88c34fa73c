//! The types that the engine leaves open when it plans, as PostgreSQL tells them.
//!
//! What it is: [`parameters`] finds what `$1`, `$2`, … are from where they stand; the parts of a union
//! get the types of the whole.
//!
//! # Why
//! The columns of `SELECT NULL UNION ALL SELECT 1` are told to a client before the engine's analysis
//! makes them integers.

mod early;
mod functions;
mod operands;
mod parameters;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr_rewriter::coerce_plan_expr_for_schema;
use datafusion::logical_expr::{LogicalPlan, Union};
use datafusion::optimizer::analyzer::type_coercion::coerce_union_schema;

pub(super) use early::told;
pub(super) use parameters::fields;
pub(crate) use parameters::is_open;

/// Gives every parameter one type, which may be `stated`, and the parts of a union the types of the whole.
pub(super) fn infer(plan: LogicalPlan, stated: &[Option<FieldRef>]) -> Result<LogicalPlan> {
    let mut unions = false;
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Union(union) if differ(&union.inputs) => {
            unions = true;
            coerced(&union.inputs).map(Transformed::yes)
        }
        other if unions => other.recompute_schema().map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    })?;
    parameters::typed(plan.data, stated)
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
