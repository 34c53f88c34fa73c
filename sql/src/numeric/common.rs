//! The type that several are brought to, by PostgreSQL's rules.
//!
//! What it guarantees: of numbers the widest kind, in the order smallint, integer, bigint, numeric,
//! real, double precision. What is compared with a float is a double.
//! What it does not: the precision of a numeric is the engine's, as wide as both need. Beside types
//! that are no numbers the engine's own rules count, but for the unit of a time.
//!
//! # Why
//! The engine compares a float with a numeric as numerics of fifteen digits behind the point, where
//! small numbers are zero and large ones overflow.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::logical_expr::type_coercion::binary::type_union_coercion;

pub(super) const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// The type of a value that is one of several (`CASE`, `COALESCE`, `UNION`); `None` where they have
/// one type already, or no common one. NULL takes the type of the others.
pub(super) fn chosen(types: &[DataType]) -> Option<DataType> {
    let mut known = types.iter().filter(|of| !of.is_null());
    let first = known.next()?;
    let (mut of, mut differ) = (first.clone(), false);
    for next in known {
        differ |= next != first;
        of = both(&of, next)?;
    }
    differ.then_some(of)
}

/// The type that numbers are compared and computed in; `None` where that is not a float, or where
/// they are all of one. A day beside a timestamp, which a day and a span of time make, is one as well.
pub(super) fn compared(types: &[DataType]) -> Option<DataType> {
    let numbers = || types.iter().filter(|of| !of.is_null());
    let differ = || numbers().zip(numbers().skip(1)).any(|(one, next)| one != next);
    let all = numbers().all(DataType::is_numeric) && numbers().any(DataType::is_floating);
    let is_clock = |of: &DataType| matches!(of, DataType::Timestamp(_, None));
    let are_times = numbers().all(|of| is_clock(of) || *of == DataType::Date32);
    match differ() {
        true if all => Some(DataType::Float64),
        true if are_times => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        _ => None,
    }
}

/// Whether a value is a span of time, and not a point in it.
pub(crate) fn is_span(of: &DataType) -> bool {
    matches!(of, DataType::Interval(_) | DataType::Duration(_))
}

fn both(one: &DataType, other: &DataType) -> Option<DataType> {
    use DataType::{Float32, Float64, Int64, Timestamp, UInt8, UInt16, UInt32, UInt64};
    // The engine counts without a sign where PostgreSQL has a bigint; what is left is an oid.
    let signed = |of: &DataType| match of {
        UInt8 | UInt16 | UInt64 => Int64,
        other => other.clone(),
    };
    let (one, other) = (&signed(one), &signed(other));
    if one == other {
        return Some(one.clone());
    }
    let either = |of: &DataType| one == of || other == of;
    if one.is_numeric() && other.is_numeric() && !either(&UInt32) {
        return match () {
            () if either(&Float64) => Some(Float64),
            () if either(&Float32) => Some(Float32),
            () => type_union_coercion(one, other),
        };
    }
    if is_span(one) && is_span(other) {
        return Some(INTERVAL);
    }
    match type_union_coercion(one, other)? {
        // The engine's own times count billionths of a second, and end in 2262.
        Timestamp(_, zone) => Some(Timestamp(TimeUnit::Microsecond, zone)),
        of => Some(of),
    }
}

#[cfg(test)]
mod tests;
