//! The functions that clients call beside the system tables.
//!
//! What it guarantees: each sees what the principal sees and no more; a `NULL` argument gives
//! `NULL` where PostgreSQL's function is strict. They have no effect.
//! On failure: PostgreSQL's SQLSTATE, carried inside DataFusion's error as ours.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Result};

use super::CatalogView;
use super::apply::Apply;
use super::definition::field;
use super::value::{Value, array, arrow_type};

mod describe;
mod name;
mod privilege;
mod session;
mod text;

/// One function: its name, how many arguments it takes, PostgreSQL's type of its result.
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    pub least: usize,
    pub most: usize,
    pub returns: &'static str,
    /// Whether a NULL argument makes the result NULL.
    pub strict: bool,
    pub body: fn(&CatalogView, &[Value]) -> Result<Value>,
}

impl Function {
    const fn new(
        name: &'static str,
        arguments: (usize, usize),
        returns: &'static str,
        body: fn(&CatalogView, &[Value]) -> Result<Value>,
    ) -> Function {
        Function { name, least: arguments.0, most: arguments.1, returns, strict: true, body }
    }

    /// The function also answers to NULL arguments.
    const fn lenient(mut self) -> Function {
        self.strict = false;
        self
    }
}

/// The functions of one session, to be registered for its statements.
pub fn functions(view: &Arc<CatalogView>) -> Vec<Arc<ScalarUDF>> {
    let plain = all().map(|function| {
        let signature = signature(function);
        Arc::new(ScalarUDF::from(Bound { view: Arc::clone(view), function, signature }))
    });
    plain.chain(Apply::all(view)).collect()
}

fn all() -> impl Iterator<Item = &'static Function> {
    [
        describe::FUNCTIONS,
        name::FUNCTIONS,
        privilege::FUNCTIONS,
        session::FUNCTIONS,
        text::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
}

fn signature(function: &Function) -> Signature {
    let arities = (function.least..=function.most).map(|count| match count {
        0 => TypeSignature::Nullary,
        count => TypeSignature::Any(count),
    });
    Signature::one_of(arities.collect(), Volatility::Stable)
}

/// A function and the session it answers for.
#[derive(Debug)]
struct Bound {
    view: Arc<CatalogView>,
    function: &'static Function,
    signature: Signature,
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.view, &other.view) && self.function.name == other.function.name
    }
}

impl Eq for Bound {}

impl Hash for Bound {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Bound {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(arrow_type(self.function.returns))
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef, DataFusionError> {
        Ok(Arc::new(field(self.function.name, self.function.returns, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let constant = args.args.iter().all(|it| matches!(it, ColumnarValue::Scalar(_)));
        let count = if constant { 1 } else { args.number_rows };
        let mut values = Vec::with_capacity(count);
        for row in 0..count {
            values.push(self.call(&args.args, row).map_err(external)?);
        }
        let result = array(self.function.returns, &values).map_err(external)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

impl Bound {
    fn call(&self, arguments: &[ColumnarValue], row: usize) -> Result<Value> {
        let values = arguments
            .iter()
            .map(|it| Value::from_scalar(&argument(it, row)?))
            .collect::<Result<Vec<_>>>()?;
        if self.function.strict && values.iter().any(Value::is_null) {
            return Ok(Value::Null);
        }
        (self.function.body)(&self.view, &values)
    }
}

/// The value of an argument in one row.
pub fn argument(of: &ColumnarValue, row: usize) -> Result<ScalarValue> {
    match of {
        ColumnarValue::Scalar(scalar) => Ok(scalar.clone()),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row)
            .map_err(|error| Error::internal("an argument cannot be read").with_source(error)),
    }
}

/// Our error as DataFusion carries it.
pub fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
