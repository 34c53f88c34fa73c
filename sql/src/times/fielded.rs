//! Functions of a field and a time, where the engine's answer is not PostgreSQL's.
//!
//! What it is: the engine's function, by its name and with its types, which is asked for what ours do not
//! know.
//! What it guarantees: a field is one text for all rows to ours; NULL is NULL.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result as PlanResult;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::Result;

use crate::errors::to_engine;

/// What ours make of a field and a column; `None` for a column of a type that is the engine's.
pub(super) type Ours = fn(&str, &ArrayRef) -> Option<Result<ArrayRef>>;

/// `engines`, but where `ours` know better.
pub(super) fn function(engines: Arc<ScalarUDF>, ours: Ours) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Fielded { aliases: engines.aliases().to_vec(), engines, ours }))
}

#[derive(Debug)]
struct Fielded {
    engines: Arc<ScalarUDF>,
    aliases: Vec<String>,
    ours: Ours,
}

impl PartialEq for Fielded {
    fn eq(&self, other: &Self) -> bool {
        self.engines == other.engines
    }
}

impl Eq for Fielded {}

impl Hash for Fielded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.engines.hash(state);
    }
}

impl ScalarUDFImpl for Fielded {
    fn name(&self) -> &str {
        self.engines.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        self.engines.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        self.engines.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> PlanResult<FieldRef> {
        self.engines.return_field_from_args(args)
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> PlanResult<SortProperties> {
        self.engines.output_ordering(input)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let ours = match args.args.as_slice() {
            [ColumnarValue::Scalar(field), of] => match (field.try_as_str().flatten(), of) {
                (Some(field), ColumnarValue::Array(of)) => (self.ours)(field, of)
                    .map(|made| made.map(ColumnarValue::Array).map_err(to_engine)),
                (Some(field), ColumnarValue::Scalar(of)) => (self.ours)(field, &of.to_array()?)
                    .map(|made| {
                        let made = made.map_err(to_engine)?;
                        ScalarValue::try_from_array(&made, 0).map(ColumnarValue::Scalar)
                    }),
                (None, _) => None,
            },
            _ => None,
        };
        ours.unwrap_or_else(|| self.engines.invoke_with_args(args))
    }
}
