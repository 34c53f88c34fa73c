//! The least and the greatest of floats in groups, as PostgreSQL orders them: `NaN` above every number.
//!
//! # Why
//! The engine's fast way for groups begins with the largest finite number and goes by a comparison that
//! `NaN` takes no part in: what came last wins, and a group of infinities alone has a finite least. Its
//! plain way is right.
//! What it does not: whole tables and frames are right as they are.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, ExprSchemable, ReversedUDAF,
    SetMonotonicity, Signature,
};

/// `min` and `max` of floats go the plain way.
pub(super) fn plain(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let Expr::AggregateFunction(mut call) = expr else { return Transformed::no(expr) };
    let is_float = |it: &Expr| it.get_type(schema).is_ok_and(|of| of.is_floating());
    if !matches!(call.func.name(), "min" | "max") || !call.params.args.iter().any(is_float) {
        return Transformed::no(Expr::AggregateFunction(call));
    }
    call.func = Arc::new(AggregateUDF::from(Extreme { of: call.func }));
    Transformed::yes(Expr::AggregateFunction(call))
}

/// Another function without its fast way for groups.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    of: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.of.return_type(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.of.coerce_types(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.of.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.of.create_sliding_accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.of.state_fields(args)
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        false
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.of.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.of.reverse_udf()
    }

    fn is_descending(&self) -> Option<bool> {
        self.of.is_descending()
    }

    fn set_monotonicity(&self, of: &DataType) -> SetMonotonicity {
        self.of.inner().set_monotonicity(of)
    }
}
