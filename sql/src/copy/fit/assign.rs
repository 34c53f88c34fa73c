//! The assignment of a loader's values to a column of a table.
//!
//! What it guarantees: the result has exactly the column's Arrow type. Numbers are checked and
//! rounded as PostgreSQL does it, times are read in the session's zone, nanoseconds are rounded to
//! microseconds. Within lists and structs the same holds.
//! What it does not: PostgreSQL would write times and floating numbers as text, in its own form;
//! such a load is refused.
//! On failure: `42804` where no value of the type can be assigned; else the value's error.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, ListArray, PrimitiveArray, StringArray, StructArray,
    new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    ArrowNativeType, DataType, Decimal128Type, Field, FieldRef, Fields, Float64Type, Int64Type,
    TimeUnit, TimestampMicrosecondType,
};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;

use crate::errors::from_arrow;
use crate::input::Number;
use crate::input::calendar::out_of_range;
use crate::input::read_column;
use crate::input::zone::Zone;
use crate::write::conform::cast;

const MICROSECONDS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
/// The most digits of a number.
const DIGITS: u8 = 38;

/// `column` as values of `to`, which are ones: a client's arrays may hold what their type forbids.
pub(super) fn assigned(column: &ArrayRef, to: &FieldRef, zone: Zone) -> Result<ArrayRef> {
    let assigned = converted(column, to, zone)?;
    match assigned.data_type() {
        DataType::Decimal128(precision, _) => {
            let digits = assigned.as_primitive::<Decimal128Type>();
            let fits = digits.validate_decimal_precision(*precision);
            fits.map_err(|_| Error::new(Kind::NumericOutOfRange, "numeric field overflow"))?;
        }
        DataType::Utf8 if has_zero(assigned.as_string()) => {
            let message = "invalid byte sequence for encoding \"UTF8\": 0x00";
            return Err(Error::new(Kind::CharacterNotInRepertoire, message));
        }
        _ => {}
    }
    Ok(assigned)
}

fn has_zero(text: &StringArray) -> bool {
    let is_zero = |bytes: &[u8]| memchr::memchr(0, bytes).is_some();
    let all = text.value_offsets().first().zip(text.value_offsets().last());
    let all =
        all.and_then(|(first, last)| text.value_data().get(first.as_usize()..last.as_usize()));
    // All at once is faster; where a value is none, its bytes may be anything.
    all.is_none_or(is_zero) && text.iter().flatten().any(|text| is_zero(text.as_bytes()))
}

fn converted(column: &ArrayRef, to: &FieldRef, zone: Zone) -> Result<ArrayRef> {
    let (from, target) = (column.data_type(), to.data_type());
    match (from, target) {
        _ if from == target && !from.is_nested() => Ok(Arc::clone(column)),
        (DataType::Null, _) => Ok(new_null_array(target, column.len())),
        (DataType::Dictionary(_, values), _) => assigned(&cast(column, values)?, to, zone),
        (DataType::RunEndEncoded(_, values), _) => {
            assigned(&cast(column, values.data_type())?, to, zone)
        }
        (DataType::LargeUtf8 | DataType::Utf8View, _) => {
            assigned(&cast(column, &DataType::Utf8)?, to, zone)
        }
        (DataType::Utf8, _) if is_scalar(target) => read_column(column, to, zone),
        (DataType::FixedSizeBinary(16), DataType::Utf8)
            if Type::from_field(to) == Some(Type::Uuid) =>
        {
            Ok(uuids(column))
        }
        (
            DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_),
            DataType::Binary,
        ) => cast(column, target),
        (DataType::Boolean | DataType::Date32, DataType::Utf8) => plain_text(column, to),
        _ if from.is_integer() && target == &DataType::Utf8 => plain_text(column, to),
        _ if from.is_numeric() && target.is_numeric() => number(column, target),
        (DataType::Date64, _) => {
            assigned(&cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?, to, zone)
        }
        (DataType::Date32 | DataType::Timestamp(_, _), _) => time(column, target, zone),
        (
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _),
            DataType::List(element),
        ) => list(column, element, zone),
        (DataType::Struct(_), DataType::Struct(fields)) => structure(column, fields, zone),
        _ => Err(mismatch()),
    }
}

/// What there is no way for; who called names the column.
fn mismatch() -> Error {
    Error::new(Kind::DatatypeMismatch, "a value cannot be assigned")
}

/// Whether text is read as a value of this type.
fn is_scalar(of: &DataType) -> bool {
    !matches!(of, DataType::Struct(_))
}

/// Values whose text is the same everywhere.
fn plain_text(column: &ArrayRef, to: &Field) -> Result<ArrayRef> {
    match Type::from_field(to) {
        Some(Type::Text | Type::Varchar(_)) => cast(column, &DataType::Utf8),
        _ => Err(mismatch()),
    }
}

/// A number in its new type, checked, and rounded where that has fewer digits.
fn number(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let wide = match column.data_type() {
        DataType::Float16 => cast(column, &DataType::Float32)?,
        DataType::Float32 if !to.is_floating() => cast(column, &DataType::Float64)?,
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal256(_, scale) => cast(column, &DataType::Decimal128(DIGITS, *scale))?,
        _ => Arc::clone(column),
    };
    let narrow = cast(&wide, to)?;
    if let (DataType::Float64, DataType::Float32) = (wide.data_type(), to) {
        let (wide, narrow) = (
            wide.as_primitive::<Float64Type>(),
            narrow.as_primitive::<arrow::datatypes::Float32Type>(),
        );
        let overflows = |(wide, narrow): (Option<f64>, Option<f32>)| {
            wide.is_some_and(f64::is_finite) && narrow.is_some_and(f32::is_infinite)
        };
        if wide.iter().zip(narrow).any(overflows) {
            return Err(Error::new(Kind::NumericOutOfRange, "value out of range: overflow"));
        }
    }
    Ok(narrow)
}

/// Floating numbers by the digits that they are sure of, as PostgreSQL does it: 1.005 is that, and not
/// a little less.
pub(crate) fn decimals(column: &ArrayRef, precision: u8, scale: i8) -> Result<ArrayRef> {
    let is_double = column.data_type() == &DataType::Float64;
    let doubles = cast(column, &DataType::Float64)?;
    let places = u8::try_from(scale).map_err(|_| mismatch())?;
    let decimal = |value: f64| {
        if !value.is_finite() {
            return Err(Error::new(Kind::NumericOutOfRange, "numeric field overflow"));
        }
        let digits = if is_double { format!("{value:.14e}") } else { format!("{value:.5e}") };
        Number::parse(&digits)?.to_decimal(precision, places)
    };
    let decimals: Decimal128Array = doubles.as_primitive::<Float64Type>().try_unary(decimal)?;
    let decimals = decimals.with_precision_and_scale(precision, scale);
    decimals.map(|it| Arc::new(it) as ArrayRef).map_err(|error| from_arrow(&error))
}

/// A day or a point in time as another: a clock on the wall shows the time of `zone`.
fn time(column: &ArrayRef, to: &DataType, zone: Zone) -> Result<ArrayRef> {
    let (local, is_local) = match column.data_type() {
        DataType::Timestamp(_, zone) => (microseconds(column)?, zone.is_none()),
        _ => (days(column)?, true),
    };
    let seconds = |at: i64| at.div_euclid(MICROSECONDS_PER_SECOND);
    let shift = |at: i64, offset_seconds: i32| {
        let by = i64::from(offset_seconds).checked_mul(MICROSECONDS_PER_SECOND);
        by.and_then(|by| at.checked_add(by)).ok_or_else(|| out_of_range("timestamp"))
    };
    let to_instant = |at: i64| shift(at, zone.offset_of_local(seconds(at)).saturating_neg());
    let to_wall = |at: i64| shift(at, zone.offset_at(seconds(at)));
    let moved =
        |by: &dyn Fn(i64) -> Result<i64>| local.try_unary::<_, TimestampMicrosecondType, Error>(by);
    match to {
        DataType::Timestamp(TimeUnit::Microsecond, Some(name)) => {
            let at = if is_local { moved(&to_instant)? } else { local };
            Ok(Arc::new(at.with_timezone(Arc::clone(name))))
        }
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            Ok(Arc::new(if is_local { local } else { moved(&to_wall)? }))
        }
        DataType::Date32 => {
            let wall: ArrayRef = Arc::new(if is_local { local } else { moved(&to_wall)? });
            cast(&wall, to)
        }
        _ => Err(mismatch()),
    }
}

fn days(column: &ArrayRef) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    Ok(cast(column, &MICROSECONDS)?.as_primitive::<TimestampMicrosecondType>().clone())
}

/// Points in time without their zone, in microseconds since the epoch.
fn microseconds(column: &ArrayRef) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let DataType::Timestamp(unit, _) = column.data_type() else { return Err(mismatch()) };
    let numbers = cast(column, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let times = |by: i64| {
        numbers.try_unary::<_, TimestampMicrosecondType, Error>(|at| {
            at.checked_mul(by).ok_or_else(|| out_of_range("timestamp"))
        })
    };
    match unit {
        TimeUnit::Second => times(MICROSECONDS_PER_SECOND),
        TimeUnit::Millisecond => times(1000),
        TimeUnit::Microsecond => times(1),
        TimeUnit::Nanosecond => Ok(numbers.unary(rounded)),
    }
}

/// Nanoseconds as microseconds, to the nearest; halves to the even one.
fn rounded(nanoseconds: i64) -> i64 {
    let (whole, rest) = (nanoseconds.div_euclid(1000), nanoseconds.rem_euclid(1000));
    let up = rest > 500 || (rest == 500 && whole % 2 != 0);
    whole.saturating_add(i64::from(up))
}

fn uuids(column: &ArrayRef) -> ArrayRef {
    let bytes = column.as_fixed_size_binary();
    let text = |bytes: Option<&[u8]>| {
        let bytes = uuid::Uuid::from_slice(bytes?).ok()?;
        Some(bytes.hyphenated().to_string())
    };
    Arc::new(bytes.iter().map(text).collect::<StringArray>())
}

fn list(column: &ArrayRef, element: &FieldRef, zone: Zone) -> Result<ArrayRef> {
    let from = match column.data_type() {
        DataType::List(from) | DataType::LargeList(from) | DataType::FixedSizeList(from, _) => from,
        _ => return Err(mismatch()),
    };
    let lists = cast(column, &DataType::List(Arc::clone(from)))?;
    let lists = lists.as_list::<i32>();
    let (offsets, nulls) = (lists.offsets(), lists.nulls().cloned());
    // Of a slice, and of what a client sends, the values are more than those of its rows.
    let (first, length) = match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (first.as_usize(), last.as_usize() - first.as_usize()),
        _ => (0, 0),
    };
    let values = assigned(&lists.values().slice(first, length), element, zone)?;
    let offsets = OffsetBuffer::from_lengths(offsets.lengths());
    ListArray::try_new(Arc::clone(element), offsets, values, nulls)
        .map(|list| Arc::new(list) as ArrayRef)
        .map_err(|error| from_arrow(&error))
}

/// Fields are matched by name; one that is not given is NULL, one too many has no place.
fn structure(column: &ArrayRef, fields: &Fields, zone: Zone) -> Result<ArrayRef> {
    let given = column.as_struct();
    let known = |name: &&str| fields.iter().any(|field| field.name() == name);
    if !given.column_names().iter().all(known) {
        return Err(mismatch());
    }
    let values = fields.iter().map(|field| match given.column_by_name(field.name()) {
        Some(values) => assigned(values, field, zone),
        None => Ok(new_null_array(field.data_type(), column.len())),
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    StructArray::try_new(fields.clone(), values, given.nulls().cloned())
        .map(|made| Arc::new(made) as ArrayRef)
        .map_err(|error| from_arrow(&error))
}
