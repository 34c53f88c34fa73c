//! The functions that compute quotients and products of numerics.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::compute::try_binary;
use arrow::datatypes::{DataType, Decimal128Type, i256};
use arrow::error::ArrowError;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Quotient,
    Product,
}

/// A quotient or a product of two numerics as a numeric of one precision and scale.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct NumericFunction {
    operation: Operation,
    result: DataType,
    signature: Signature,
}

impl NumericFunction {
    pub(super) fn quotient(result: DataType) -> NumericFunction {
        NumericFunction::new(Operation::Quotient, result)
    }

    pub(super) fn product(result: DataType) -> NumericFunction {
        NumericFunction::new(Operation::Product, result)
    }

    fn new(operation: Operation, result: DataType) -> NumericFunction {
        NumericFunction {
            operation,
            result,
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for NumericFunction {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Quotient => "numeric_divide",
            Operation::Product => "numeric_multiply",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return exec_err!("wrong number of operands for {}", self.name());
        };
        let types = (left.data_type(), right.data_type(), &self.result);
        let (
            DataType::Decimal128(_, one),
            DataType::Decimal128(_, other),
            DataType::Decimal128(precision, scale),
        ) = types
        else {
            return exec_err!("operands of {} are not numeric", self.name());
        };
        let Some(step) = Step::new(self.operation, one, other, (*precision, *scale)) else {
            return exec_err!("no digits are left for {}", self.name());
        };
        let typed = |array: Decimal128Array| array.with_precision_and_scale(*precision, *scale);
        let array: ArrayRef = match (left, right) {
            (ColumnarValue::Array(left), ColumnarValue::Array(right)) => {
                let (left, right) = (numbers(left)?, numbers(right)?);
                Arc::new(typed(try_binary(left, right, |one, other| step.apply(one, other))?)?)
            }
            (ColumnarValue::Array(left), ColumnarValue::Scalar(right)) => match number(right)? {
                Some(other) => {
                    let left = numbers(left)?;
                    Arc::new(typed(left.try_unary(|one| step.apply(one, other))?)?)
                }
                None => return ScalarValue::try_from(&self.result).map(ColumnarValue::Scalar),
            },
            (ColumnarValue::Scalar(left), ColumnarValue::Array(right)) => match number(left)? {
                Some(one) => {
                    let right = numbers(right)?;
                    Arc::new(typed(right.try_unary(|other| step.apply(one, other))?)?)
                }
                None => return ScalarValue::try_from(&self.result).map(ColumnarValue::Scalar),
            },
            (ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)) => {
                let value = match (number(left)?, number(right)?) {
                    (Some(one), Some(other)) => Some(step.apply(one, other)?),
                    _ => None,
                };
                let value = ScalarValue::Decimal128(value, *precision, *scale);
                return Ok(ColumnarValue::Scalar(value));
            }
        };
        Ok(ColumnarValue::Array(array))
    }
}

fn numbers(array: &ArrayRef) -> Result<&Decimal128Array> {
    match array.as_primitive_opt::<Decimal128Type>() {
        Some(numbers) => Ok(numbers),
        None => exec_err!("{} is not numeric", array.data_type()),
    }
}

fn number(value: &ScalarValue) -> Result<Option<i128>> {
    match value {
        ScalarValue::Decimal128(value, ..) => Ok(*value),
        other => exec_err!("{} is not numeric", other.data_type()),
    }
}

/// What is done with every two numbers, as whole numbers without their points.
struct Step {
    operation: Operation,
    /// Ten to the digits that the dividend needs more, or that the product has too many.
    factor: i256,
    /// The same, where it is small; most numbers need no more than that.
    small: Option<i128>,
    /// The result is less, whatever its sign.
    limit: i128,
}

impl Step {
    /// `None` where the result has fewer digits after the point than it can be computed with.
    fn new(operation: Operation, one: i8, other: i8, result: (u8, i8)) -> Option<Step> {
        let (precision, scale) = result;
        let (one, other, scale) = (i16::from(one), i16::from(other), i16::from(scale));
        let shift = match operation {
            Operation::Quotient => scale - one + other,
            Operation::Product => one + other - scale,
        };
        let shift = u32::try_from(shift).ok()?;
        Some(Step {
            operation,
            factor: i256::from_i128(10).checked_pow(shift)?,
            small: 10_i128.checked_pow(shift),
            limit: 10_i128.checked_pow(u32::from(precision))?,
        })
    }

    fn apply(&self, one: i128, other: i128) -> std::result::Result<i128, ArrowError> {
        if self.operation == Operation::Quotient && other == 0 {
            return Err(ArrowError::DivideByZero);
        }
        let result = match self.in_small(one, other) {
            Some(result) => Some(result),
            None => self.in_large(one, other),
        };
        result.filter(|it| it.unsigned_abs() < self.limit.unsigned_abs()).ok_or_else(|| {
            ArrowError::ArithmeticOverflow("a numeric has at most 38 digits".to_owned())
        })
    }

    /// `None` where 128 bits do not hold what it is computed from.
    fn in_small(&self, one: i128, other: i128) -> Option<i128> {
        let factor = self.small?;
        let (number, by) = match self.operation {
            Operation::Quotient => (one.checked_mul(factor)?, other),
            Operation::Product => (one.checked_mul(other)?, factor),
        };
        let (cut, rest) = (number.checked_div(by)?, number.checked_rem(by)?.unsigned_abs());
        // Half of what it was divided by, or more.
        match rest >= by.unsigned_abs() - rest {
            true => cut.checked_add(if (number < 0) == (by < 0) { 1 } else { -1 }),
            false => Some(cut),
        }
    }

    /// `None` where the result does not fit 128 bits: what 256 bits do not hold is, divided by 38
    /// digits, still too large.
    fn in_large(&self, one: i128, other: i128) -> Option<i128> {
        let (one, other) = (i256::from_i128(one), i256::from_i128(other));
        let (number, by) = match self.operation {
            Operation::Quotient => (one.checked_mul(self.factor)?, other),
            Operation::Product => (one.checked_mul(other)?, self.factor),
        };
        let rest = number.checked_rem(by)?.wrapping_abs();
        let cut = number.checked_div(by)?.to_i128()?;
        match rest >= by.wrapping_abs().wrapping_sub(rest) {
            true => {
                let same = number.is_negative() == by.is_negative();
                cut.checked_add(if same { 1 } else { -1 })
            }
            false => Some(cut),
        }
    }
}
