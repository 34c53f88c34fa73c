//! Functions that make much of little, refused before they do.
//!
//! # Why
//! `repeat('x', 1000000000)` for each row of a batch is terabytes asked for at once, and no memory
//! pool is asked. What such a function would give for one batch is computed from its arguments
//! first, and refused where a statement could never hold it.
//! What it guarantees: no call of these functions allocates more than the limit for its result.
//! What it does not: it reserves nothing. A plan that calls some of them has batches of few rows
//! ([`expands`]), so that what waits between its operators is little.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    TimeUnit,
};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::human_readable_size;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

use super::STATEMENT;

/// How many bytes a call will give, at most; 0 where it is not worth asking.
type Estimate = fn(&[ColumnarValue], usize) -> Result<u64>;

/// The functions, by the engine's names.
const EXPANDING: &[(&str, Estimate)] = &[
    ("repeat", repeated),
    ("lpad", padded),
    ("rpad", padded),
    ("array_repeat", repeated_elements),
    ("array_resize", resized),
    ("range", series),
    ("generate_series", series),
    ("replace", replaced),
];

/// Whether `plan` calls a function that makes rows wide.
pub(crate) fn expands(plan: &LogicalPlan) -> Result<bool> {
    const WIDE: &[&str] = &["repeat", "lpad", "rpad", "array_repeat", "array_resize"];
    crate::numeric::any(plan, |expr| match expr {
        Expr::ScalarFunction(call) => WIDE.contains(&call.name()),
        _ => false,
    })
}

/// A character takes at most this many bytes.
const CHARACTER_BYTES: u64 = 4;
/// About what an element of an array takes.
const ELEMENT_BYTES: u64 = 8;

/// Puts the bound around every function that needs it.
pub(crate) fn install(state: &mut SessionState, limit_bytes: usize) -> Result<()> {
    let limit_bytes = u64::try_from(limit_bytes).unwrap_or(u64::MAX);
    for (name, estimate) in EXPANDING {
        let Some(inner) = state.scalar_functions().get(*name).cloned() else { continue };
        let bounded = Bounded { inner, estimate: *estimate, limit_bytes };
        state.register_udf(Arc::new(ScalarUDF::from(bounded)))?;
    }
    Ok(())
}

/// A function of the engine's with a bound on what it gives.
#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    estimate: Estimate,
    limit_bytes: u64,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner && self.limit_bytes == other.limit_bytes
    }
}

impl Eq for Bounded {}

impl std::hash::Hash for Bounded {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bytes = (self.estimate)(&args.args, args.number_rows)?;
        if bytes > self.limit_bytes {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{STATEMENT}: {} would give {} at once",
                self.name(),
                human_readable_size(usize::try_from(bytes).unwrap_or(usize::MAX)),
            )));
        }
        self.inner.invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }
}

fn repeated(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    pairs(args, rows, |text, count| text.saturating_mul(count))
}

fn padded(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    pairs(args, rows, |_, count| count.saturating_mul(CHARACTER_BYTES))
}

fn repeated_elements(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    pairs(args, rows, |element, count| element.max(ELEMENT_BYTES).saturating_mul(count))
}

fn resized(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    pairs(args, rows, |_, count| count.saturating_mul(ELEMENT_BYTES))
}

/// The sum over all rows of `bytes(size of the first argument, value of the second)`.
fn pairs(args: &[ColumnarValue], rows: usize, bytes: fn(u64, u64) -> u64) -> Result<u64> {
    let [first, second, ..] = args else { return Ok(0) };
    let times = if is_constant(args) { 1 } else { rows };
    let Some(counts) = numbers(second)? else { return Ok(0) };
    let sizes = Sizes::of(first)?;
    let mut total = 0_u64;
    for row in 0..times {
        let count = at(&counts, row).and_then(|count| u64::try_from(count).ok());
        total = total.saturating_add(bytes(sizes.at(row), count.unwrap_or_default()));
    }
    Ok(total)
}

/// Numbers from a start to a stop by a step; dates and times by an interval.
fn series(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    let bounds = args.iter().map(numbers).collect::<Result<Option<Vec<_>>>>()?;
    let Some(bounds) = bounds else { return Ok(0) };
    let times = if is_constant(args) { 1 } else { rows };
    let mut total = 0_u64;
    for row in 0..times {
        let value = |index: usize| bounds.get(index).and_then(|it| at(it, row));
        let (start, stop, step) = match bounds.len() {
            1 => (Some(0), value(0), Some(1)),
            2 => (value(0), value(1), Some(1)),
            _ => (value(0), value(1), value(2)),
        };
        let (Some(start), Some(stop), Some(step)) = (start, stop, step) else { continue };
        let count = start.abs_diff(stop).checked_div(step.unsigned_abs()).unwrap_or_default();
        total = total.saturating_add(count.saturating_mul(ELEMENT_BYTES));
    }
    Ok(total)
}

/// As if every byte of the text began a match, which is exact for what makes most of it.
fn replaced(args: &[ColumnarValue], rows: usize) -> Result<u64> {
    let [text, from, to] = args else { return Ok(0) };
    let times = if is_constant(args) { 1 } else { rows };
    let (text, from, to) = (Sizes::of(text)?, Sizes::of(from)?, Sizes::of(to)?);
    let mut total = 0_u64;
    for row in 0..times {
        let matches = text.at(row).checked_div(from.at(row)).unwrap_or_default();
        total = total.saturating_add(matches.saturating_mul(to.at(row)));
    }
    Ok(total)
}

fn is_constant(args: &[ColumnarValue]) -> bool {
    args.iter().all(|it| matches!(it, ColumnarValue::Scalar(_)))
}

/// Whole numbers, one or one for each row, times and intervals as microseconds; `None` for what is
/// none of these.
fn numbers(of: &ColumnarValue) -> Result<Option<Int64Array>> {
    let array = array(of)?;
    let numbers = match array.data_type() {
        of if of.is_integer() => array,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
            cast(&array, &DataType::Timestamp(TimeUnit::Microsecond, None))?
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let intervals = array.as_primitive::<IntervalMonthDayNanoType>();
            Arc::new(intervals.unary::<_, Int64Type>(microseconds))
        }
        _ => return Ok(None),
    };
    Ok(Some(cast(&numbers, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
}

/// About how long an interval is: what it counts is at most as much as it says.
fn microseconds(interval: IntervalMonthDayNano) -> i64 {
    const DAY: i64 = 86_400_000_000;
    let days = i64::from(interval.months) * 28 + i64::from(interval.days);
    days.saturating_mul(DAY).saturating_add(interval.nanoseconds / 1000)
}

fn array(of: &ColumnarValue) -> Result<ArrayRef> {
    match of {
        ColumnarValue::Array(array) => Ok(Arc::clone(array)),
        ColumnarValue::Scalar(scalar) => scalar.to_array(),
    }
}

/// The value for a row, where one value is that of every row.
fn at(numbers: &Int64Array, row: usize) -> Option<i64> {
    let row = if numbers.len() == 1 { 0 } else { row };
    (row < numbers.len() && numbers.is_valid(row)).then(|| numbers.value(row))
}

/// The bytes of each value.
enum Sizes {
    /// The same for every row.
    One(u64),
    Texts(ArrayRef),
    /// Not texts: what they take on average.
    Average(u64),
}

impl Sizes {
    fn of(values: &ColumnarValue) -> Result<Sizes> {
        let array = array(values)?;
        let is_text =
            matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        Ok(match values {
            ColumnarValue::Scalar(_) if is_text => Sizes::One(text_bytes(&array, 0)),
            ColumnarValue::Array(_) if is_text => Sizes::Texts(array),
            _ => {
                let bytes = array.get_array_memory_size() / array.len().max(1);
                Sizes::Average(u64::try_from(bytes).unwrap_or(u64::MAX))
            }
        })
    }

    fn at(&self, row: usize) -> u64 {
        match self {
            Sizes::One(bytes) | Sizes::Average(bytes) => *bytes,
            Sizes::Texts(array) => text_bytes(array, row),
        }
    }
}

fn text_bytes(array: &ArrayRef, row: usize) -> u64 {
    if row >= array.len() || array.is_null(row) {
        return 0;
    }
    let bytes = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).len(),
        _ => array.as_string_view().value(row).len(),
    };
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
