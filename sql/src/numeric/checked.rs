//! The functions that checked arithmetic is made of.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Datum};
use arrow::compute::CastOptions;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Operator, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind};

use crate::errors::to_engine;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Negate,
    Round,
}

/// One operation on integers or floats that raises `22003` instead of wrapping or overflowing to
/// infinity and `22012` for a division by zero, or the rounding before a cast to an integer.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Checked {
    operation: Operation,
    signature: Signature,
}

impl Checked {
    /// `+`, `-`, `*` or `/`.
    pub(super) fn of(operator: Operator) -> Self {
        Checked::new(match operator {
            Operator::Plus => Operation::Add,
            Operator::Minus => Operation::Subtract,
            Operator::Divide => Operation::Divide,
            _ => Operation::Multiply,
        })
    }

    pub(super) fn negate() -> Self {
        Checked::new(Operation::Negate)
    }

    pub(super) fn round() -> Self {
        Checked::new(Operation::Round)
    }

    fn new(operation: Operation) -> Self {
        Checked { operation, signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Add => "checked_add",
            Operation::Subtract => "checked_subtract",
            Operation::Multiply => "checked_multiply",
            Operation::Divide => "checked_divide",
            Operation::Negate => "checked_negate",
            Operation::Round => "round_to_integer",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Decimal128(precision, _)] if self.operation == Operation::Round => {
                Ok(DataType::Decimal128(*precision, 0))
            }
            [of] if self.operation == Operation::Negate || self.operation == Operation::Round => {
                Ok(of.clone())
            }
            [left, right] if left == right => Ok(left.clone()),
            _ => plan_err!("operands of {} differ in type", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match (self.operation, args.args.as_slice()) {
            (Operation::Negate, [value]) => {
                unary(value, |it| numeric::neg(it).map_err(overflow(it.data_type())))
            }
            (Operation::Round, [value]) => unary(value, round),
            (operation, [left, right]) => binary(operation, left, right),
            _ => exec_err!("wrong number of operands for {}", self.name()),
        }
    }
}

fn unary(
    value: &ColumnarValue,
    compute: impl Fn(&ArrayRef) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    match value {
        ColumnarValue::Array(array) => compute(array).map(ColumnarValue::Array),
        ColumnarValue::Scalar(scalar) => {
            let array = compute(&scalar.to_array()?)?;
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
        }
    }
}

fn binary(
    operation: Operation,
    left: &ColumnarValue,
    right: &ColumnarValue,
) -> Result<ColumnarValue> {
    let compute = |left: &dyn Datum, right: &dyn Datum| {
        let of = left.get().0.data_type().clone();
        let result = match operation {
            Operation::Add => numeric::add(left, right),
            Operation::Subtract => numeric::sub(left, right),
            Operation::Divide => numeric::div(left, right),
            _ => numeric::mul(left, right),
        };
        let result = result.map_err(overflow(&of))?;
        match of {
            DataType::Float64 => check_floats::<Float64Type>(operation, left, right, &result)?,
            DataType::Float32 => check_floats::<Float32Type>(operation, left, right, &result)?,
            _ => {}
        }
        Ok::<_, DataFusionError>(result)
    };
    Ok(match (left, right) {
        (ColumnarValue::Array(left), ColumnarValue::Array(right)) => {
            ColumnarValue::Array(compute(left, right)?)
        }
        (ColumnarValue::Array(left), ColumnarValue::Scalar(right)) => {
            ColumnarValue::Array(compute(left, &right.to_scalar()?)?)
        }
        (ColumnarValue::Scalar(left), ColumnarValue::Array(right)) => {
            ColumnarValue::Array(compute(&left.to_scalar()?, right)?)
        }
        (ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)) => {
            let array = compute(&left.to_scalar()?, &right.to_scalar()?)?;
            ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
        }
    })
}

/// Raises what IEEE arithmetic answers with infinity, where no operand was infinite.
fn check_floats<T: ArrowPrimitiveType>(
    operation: Operation,
    left: &dyn Datum,
    right: &dyn Datum,
    result: &ArrayRef,
) -> Result<()>
where
    T::Native: Into<f64>,
{
    let (left, left_is_one) = left.get();
    let (right, right_is_one) = right.get();
    let (left, right) = (left.as_primitive::<T>(), right.as_primitive::<T>());
    for (row, value) in result.as_primitive::<T>().iter().enumerate() {
        let value: f64 = value.map_or(0.0, Into::into);
        if value.is_finite() {
            continue;
        }
        let left: f64 = left.value(if left_is_one { 0 } else { row }).into();
        let right: f64 = right.value(if right_is_one { 0 } else { row }).into();
        if operation == Operation::Divide && right == 0.0 && !left.is_nan() {
            return Err(to_engine(Error::new(Kind::DivisionByZero, "division by zero")));
        }
        if value.is_infinite() && left.is_finite() && right.is_finite() {
            let message = "value out of range: overflow";
            return Err(to_engine(Error::new(Kind::NumericOutOfRange, message)));
        }
    }
    Ok(())
}

/// PostgreSQL rounds floats half to even; numerics round half away from zero, which is what
/// Arrow's cast to a smaller scale does.
fn round(array: &ArrayRef) -> Result<ArrayRef> {
    use std::sync::Arc;
    Ok(match array.data_type() {
        DataType::Float64 => Arc::new(
            array.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round_ties_even),
        ),
        DataType::Float32 => Arc::new(
            array.as_primitive::<Float32Type>().unary::<_, Float32Type>(f32::round_ties_even),
        ),
        DataType::Decimal128(precision, _) => {
            // Rounded up it has one digit more before the point: those behind it make room for that.
            let whole = DataType::Decimal128(*precision, 0);
            let options = CastOptions { safe: false, ..CastOptions::default() };
            arrow::compute::cast_with_options(array, &whole, &options)?
        }
        other => return exec_err!("{other} has no fraction"),
    })
}

fn overflow(of: &DataType) -> impl Fn(ArrowError) -> datafusion::error::DataFusionError {
    let name = match of {
        DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        _ => "bigint",
    };
    move |error| {
        let ours = Error::new(Kind::NumericOutOfRange, format!("{name} out of range"));
        to_engine(ours.with_source(error))
    }
}
