//! Scalar functions that PostgreSQL has and the engine lacks, or has for fewer types.
//!
//! What it is: `pg_typeof`, `octet_length` of text and bytes, `sign`, and what masks are made of.
//! What it does not: functions that know the session or the catalog; `pg_catalog` has those.

mod masking;

use std::sync::Arc;

use arrow::compute::kernels::length::length;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::functions_aggregate::{bool_and_or, variance};
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;
use kho_catalog::types::Type;

/// The functions, to be registered once for all sessions.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let sign = datafusion::functions::math::signum();
    let plain = vec![
        Arc::new(ScalarUDF::from(TypeOf(Signature::any(1, Volatility::Immutable)))),
        Arc::new(ScalarUDF::from(OctetLength(Signature::any(1, Volatility::Immutable)))),
        Arc::new(ScalarUDF::clone(&sign).with_aliases(["sign"])),
    ];
    plain.into_iter().chain(masking::functions()).collect()
}

/// Aggregates that have another name, too.
pub(crate) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let (every, variance) = (bool_and_or::bool_and_udaf(), variance::var_samp_udaf());
    let named = |of: &AggregateUDF, name| Arc::new(of.clone().with_aliases([name]));
    vec![named(&every, "every"), named(&variance, "variance")]
}

/// `pg_typeof(any)`: the type's name, as text.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeOf(Signature);

impl ScalarUDFImpl for TypeOf {
    fn name(&self) -> &str {
        "pg_typeof"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(field) = args.arg_fields.first() else {
            return exec_err!("pg_typeof takes one argument");
        };
        let name = match field.data_type() {
            DataType::Null => "unknown".to_owned(),
            DataType::UInt32 => "oid".to_owned(),
            DataType::UInt8 | DataType::UInt16 | DataType::UInt64 => "bigint".to_owned(),
            DataType::Interval(_) | DataType::Duration(_) => "interval".to_owned(),
            DataType::Decimal128(..) => "numeric".to_owned(),
            _ => match Type::from_field(field) {
                Some(of) => of.to_string(),
                None => field.data_type().to_string(),
            },
        };
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))))
    }
}

/// `octet_length(text or bytea)`: how many bytes.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OctetLength(Signature);

impl ScalarUDFImpl for OctetLength {
    fn name(&self) -> &str {
        "octet_length"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Null] => Ok(DataType::Int32),
            [of] if of.is_string() || of.is_binary() => Ok(DataType::Int32),
            _ => plan_err!("No function matches octet_length with these argument types"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.first() else {
            return exec_err!("octet_length takes one argument");
        };
        let lengths = |array: &dyn arrow::array::Array| -> Result<arrow::array::ArrayRef> {
            // Every text is bytes; this shares them and copies nothing.
            let bytes = match array.data_type() {
                DataType::Utf8View => arrow::compute::cast(array, &DataType::BinaryView)?,
                DataType::Null => arrow::compute::cast(array, &DataType::Binary)?,
                _ => arrow::array::make_array(array.to_data()),
            };
            Ok(arrow::compute::cast(&length(&bytes)?, &DataType::Int32)?)
        };
        match value {
            ColumnarValue::Array(array) => lengths(array).map(ColumnarValue::Array),
            ColumnarValue::Scalar(scalar) => {
                let array = lengths(&scalar.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
        }
    }
}
