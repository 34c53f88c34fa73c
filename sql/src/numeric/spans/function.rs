//! The functions that comparing and multiplying spans is made of.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, IntervalMonthDayNanoArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind};

use super::INTERVAL;
use crate::errors::to_engine;

const DAYS_OF_MONTH: i32 = 30;
const NANOSECONDS_OF_DAY: i64 = 86_400_000_000_000;
const SECONDS_OF_DAY: f64 = 86_400.0;
const DIGITS: u8 = 38;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Length,
    Times,
    Divided,
}

/// The length of a span in nanoseconds, or its product or quotient with a double.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SpanFunction {
    operation: Operation,
    signature: Signature,
}

impl SpanFunction {
    pub(super) fn length() -> SpanFunction {
        SpanFunction::new(Operation::Length, vec![INTERVAL])
    }

    pub(super) fn times() -> SpanFunction {
        SpanFunction::new(Operation::Times, vec![INTERVAL, DataType::Float64])
    }

    pub(super) fn divided() -> SpanFunction {
        SpanFunction::new(Operation::Divided, vec![INTERVAL, DataType::Float64])
    }

    fn new(operation: Operation, of: Vec<DataType>) -> SpanFunction {
        SpanFunction { operation, signature: Signature::exact(of, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for SpanFunction {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Length => "interval_length",
            Operation::Times => "interval_times",
            Operation::Divided => "interval_divided",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.operation {
            Operation::Length => DataType::Decimal128(DIGITS, 0),
            _ => INTERVAL,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_one = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_one { 1 } else { args.number_rows };
        let arrays = args.args.into_iter().map(|arg| arg.into_array(rows));
        let arrays = arrays.collect::<Result<Vec<ArrayRef>>>()?;
        let result: ArrayRef = match (self.operation, arrays.as_slice()) {
            (Operation::Length, [spans]) => lengths(spans)?,
            (operation, [spans, by]) => scaled(operation, spans, by)?,
            _ => return exec_err!("wrong number of arguments for {}", self.name()),
        };
        Ok(match is_one {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
            false => ColumnarValue::Array(result),
        })
    }
}

fn lengths(spans: &ArrayRef) -> Result<ArrayRef> {
    let spans = spans.as_primitive::<IntervalMonthDayNanoType>();
    let lengths: Decimal128Array = spans.unary::<_, Decimal128Type>(length);
    Ok(Arc::new(lengths.with_precision_and_scale(DIGITS, 0)?))
}

fn length(span: IntervalMonthDayNano) -> i128 {
    let days = i128::from(span.months) * i128::from(DAYS_OF_MONTH) + i128::from(span.days);
    days * i128::from(NANOSECONDS_OF_DAY) + i128::from(span.nanoseconds)
}

fn scaled(operation: Operation, spans: &ArrayRef, by: &ArrayRef) -> Result<ArrayRef> {
    let spans = spans.as_primitive::<IntervalMonthDayNanoType>();
    let by = by.as_primitive::<Float64Type>();
    let products = spans.iter().zip(by).map(|(span, by)| match (span, by) {
        (Some(span), Some(by)) => match operation {
            Operation::Divided if by == 0.0 => {
                Err(to_engine(Error::new(Kind::DivisionByZero, "division by zero")))
            }
            Operation::Divided => product(span, |part| part / by).map(Some),
            _ => product(span, |part| part * by).map(Some),
        },
        _ => Ok(None),
    });
    let products = products.collect::<Result<IntervalMonthDayNanoArray>>()?;
    Ok(Arc::new(products))
}

/// What `interval_mul` of PostgreSQL gives: what is left of months goes to days, what is left of
/// days to the time, which counts microseconds.
fn product(span: IntervalMonthDayNano, scale: impl Fn(f64) -> f64) -> Result<IntervalMonthDayNano> {
    let (all_months, all_days) = (scale(f64::from(span.months)), scale(f64::from(span.days)));
    let months = whole(all_months)?;
    let mut days = whole(all_days)?;
    let left_days = to_micro((all_months - f64::from(months)) * f64::from(DAYS_OF_MONTH));
    let whole_left_days = whole(left_days)?;
    let part_of_day = all_days - f64::from(days) + left_days - f64::from(whole_left_days);
    let mut seconds = to_micro(part_of_day * SECONDS_OF_DAY);
    if seconds.abs() >= SECONDS_OF_DAY {
        let more = whole(seconds / SECONDS_OF_DAY)?;
        days = days.checked_add(more).ok_or_else(out_of_range)?;
        seconds -= f64::from(more) * SECONDS_OF_DAY;
    }
    days = days.checked_add(whole_left_days).ok_or_else(out_of_range)?;
    #[expect(clippy::cast_precision_loss, reason = "PostgreSQL computes it in a double, too")]
    let micros = (span.nanoseconds / 1000) as f64;
    let micros = (scale(micros) + seconds * 1e6).round_ties_even();
    // Both bounds are doubles; beyond them the nanoseconds do not fit.
    if !(-9.2e15..=9.2e15).contains(&micros) {
        return Err(out_of_range());
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and within the bounds")]
    let nanoseconds = micros as i64 * 1000;
    Ok(IntervalMonthDayNano::new(months, days, nanoseconds))
}

/// The number without its fraction.
fn whole(number: f64) -> Result<i32> {
    if !(f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number) {
        return Err(out_of_range());
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is within the bounds")]
    Ok(number as i32)
}

/// The number to six digits: what doubles get wrong is behind them.
fn to_micro(number: f64) -> f64 {
    (number * 1e6).round_ties_even() / 1e6
}

fn out_of_range() -> datafusion::error::DataFusionError {
    to_engine(Error::new(Kind::DatetimeOverflow, "interval out of range"))
}

#[cfg(test)]
mod tests;
