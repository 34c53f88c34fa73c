//! What masks are made of: `kho.partial`, `kho.year`, `kho.month`, `kho.bucket`.
//!
//! What it guarantees: the result has the value's type, and no value makes one of them fail: what
//! cannot be computed is NULL. A NULL stays NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float64Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

/// The functions, to be registered once for all sessions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let of = |name, arguments, returns, body| {
        let signature = Signature::any(arguments, Volatility::Immutable);
        Arc::new(ScalarUDF::from(Masking { name, signature, returns, body }))
    };
    vec![
        of("kho.partial", 3, Returns::Text, partial),
        of("kho.year", 1, Returns::Time, year),
        of("kho.month", 1, Returns::Time, month),
        of("kho.bucket", 2, Returns::Number, bucket),
    ]
}

/// Of which values the first argument is, and with it the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Returns {
    Text,
    Time,
    Number,
}

type Body = fn(&[ArrayRef]) -> Result<ArrayRef>;

#[derive(Debug)]
struct Masking {
    name: &'static str,
    signature: Signature,
    returns: Returns,
    body: Body,
}

impl PartialEq for Masking {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Masking {}

impl std::hash::Hash for Masking {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Masking {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let name = self.name;
        let Some(of) = arguments.first() else { return plan_err!("{name} takes arguments") };
        let others_fit = arguments.iter().skip(1).all(|it| it.is_integer() || it.is_null());
        let fits = match self.returns {
            Returns::Text => of.is_string(),
            Returns::Time => {
                matches!(of, DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _))
            }
            Returns::Number => matches!(
                of,
                DataType::Int16
                    | DataType::Int32
                    | DataType::Int64
                    | DataType::Float64
                    | DataType::Decimal128(..)
            ),
        };
        match (fits && others_fit, self.returns) {
            (true, Returns::Text) => Ok(DataType::Utf8),
            (true, _) => Ok(of.clone()),
            (false, _) => plan_err!("No function matches {name} with these argument types"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|it| matches!(it, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let masked = (self.body)(&arrays)?;
        match is_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&masked, 0)?)),
            false => Ok(ColumnarValue::Array(masked)),
        }
    }
}

/// `kho.partial(text, first, last)`: so many characters at each end; `*` for each of the others.
fn partial(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let [values, first, last] = arguments else { return exec_err!("kho.partial takes three") };
    let values = arrow::compute::cast(values, &DataType::Utf8)?;
    let (first, last) = (numbers(first)?, numbers(last)?);
    let masked = values.as_string::<i32>().iter().zip(first.iter()).zip(last.iter());
    let masked = masked.map(|((value, first), last)| {
        let (value, length) = (value?, value?.chars().count());
        let kept = |number: Option<i64>| usize::try_from(number.unwrap_or(0)).unwrap_or(0);
        let (first, last) = (kept(first), kept(last));
        // Too short to hide anything between its ends: nothing of it is shown.
        let (first, last) =
            if first.saturating_add(last) < length { (first, last) } else { (0, 0) };
        let shown = |place: usize| place < first || place >= length - last;
        Some(value.chars().enumerate().map(|(at, it)| if shown(at) { it } else { '*' }).collect())
    });
    Ok(Arc::new(masked.collect::<Vec<Option<String>>>().into_iter().collect::<StringArray>()))
}

fn year(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    truncated(arguments, |day| day.with_day(1)?.with_month(1))
}

fn month(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    truncated(arguments, |day| day.with_day(1))
}

/// The day, or the midnight (UTC) of the day, that `to` gives for each.
fn truncated(arguments: &[ArrayRef], to: fn(NaiveDate) -> Option<NaiveDate>) -> Result<ArrayRef> {
    let Some(values) = arguments.first() else { return exec_err!("a time is missing") };
    Ok(match values.data_type() {
        DataType::Date32 => {
            let of = |days: i32| {
                let day = Date32Type::to_naive_date_opt(days)?;
                to(day).map(Date32Type::from_naive_date)
            };
            Arc::new(values.as_primitive::<Date32Type>().unary_opt::<_, Date32Type>(of))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let of = |micros: i64| {
                let day = to(DateTime::from_timestamp_micros(micros)?.date_naive())?;
                Some(day.and_time(NaiveTime::MIN).and_utc().timestamp_micros())
            };
            let values = values.as_primitive::<TimestampMicrosecondType>();
            let masked = values.unary_opt::<_, TimestampMicrosecondType>(of);
            Arc::new(masked.with_timezone_opt(zone.clone()))
        }
        other => return exec_err!("{other} is no time"),
    })
}

/// `kho.bucket(number, width)`: the greatest multiple of `width` that is not above the number.
fn bucket(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let [values, widths] = arguments else { return exec_err!("kho.bucket takes two") };
    let widths = numbers(widths)?;
    match values.data_type() {
        DataType::Int16 => buckets::<Int16Type>(values, &widths, |value, width| {
            floor(i128::from(value), width).and_then(|it| i16::try_from(it).ok())
        }),
        DataType::Int32 => buckets::<Int32Type>(values, &widths, |value, width| {
            floor(i128::from(value), width).and_then(|it| i32::try_from(it).ok())
        }),
        DataType::Int64 => buckets::<Int64Type>(values, &widths, |value, width| {
            floor(i128::from(value), width).and_then(|it| i64::try_from(it).ok())
        }),
        DataType::Float64 => buckets::<Float64Type>(values, &widths, |value, width| {
            (width > 0).then(|| (value / width as f64).floor() * width as f64)
        }),
        DataType::Decimal128(precision, scale) => {
            let unit = u32::try_from(*scale).ok().and_then(|scale| 10_i128.checked_pow(scale));
            let values = values.as_primitive::<Decimal128Type>();
            let of = |(value, width): (Option<i128>, Option<i64>)| {
                let width = i128::from(width?).checked_mul(unit?)?;
                (width > 0).then_some(())?;
                value?.checked_sub(value?.rem_euclid(width))
            };
            let masked = values.iter().zip(widths.iter()).map(of);
            let masked: PrimitiveArray<Decimal128Type> = masked.collect();
            Ok(Arc::new(masked.with_precision_and_scale(*precision, *scale)?))
        }
        other => exec_err!("{other} is no number"),
    }
}

fn buckets<T: ArrowPrimitiveType>(
    values: &ArrayRef,
    widths: &PrimitiveArray<Int64Type>,
    of: impl Fn(T::Native, i64) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let pairs = values.as_primitive::<T>().iter().zip(widths.iter());
    let masked = pairs.map(|(value, width)| of(value?, width?));
    Ok(Arc::new(masked.collect::<PrimitiveArray<T>>()))
}

fn floor(value: i128, width: i64) -> Option<i128> {
    let width = i128::from(width);
    (width > 0).then(|| value - value.rem_euclid(width))
}

fn numbers(array: &ArrayRef) -> Result<PrimitiveArray<Int64Type>> {
    Ok(arrow::compute::cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}
