//! From an array to the layout of its values.

use arrow::array::Array;
use arrow::array::cast::AsArray;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Field, FieldRef, Fields, Int16Type, Int32Type,
    Int64Type, IntervalUnit, RunEndIndexType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use kho_catalog::error::{Error, Result};

use super::{Column, Spans, Values};

/// Finds out how the values of `array` lie in memory.
pub(super) fn values_of(array: &dyn Array) -> Result<Values<'_>> {
    Ok(match array.data_type() {
        DataType::Null => Values::Null,
        DataType::Boolean => Values::Boolean(array.as_boolean()),
        DataType::Int8 => Values::Int8(array.as_primitive()),
        DataType::Int16 => Values::Int16(array.as_primitive()),
        DataType::Int32 => Values::Int32(array.as_primitive()),
        DataType::Int64 => Values::Int64(array.as_primitive()),
        DataType::UInt8 => Values::UInt8(array.as_primitive()),
        DataType::UInt16 => Values::UInt16(array.as_primitive()),
        DataType::UInt32 => Values::UInt32(array.as_primitive()),
        DataType::UInt64 => Values::UInt64(array.as_primitive()),
        DataType::Float16 => Values::Float16(array.as_primitive()),
        DataType::Float32 => Values::Float32(array.as_primitive()),
        DataType::Float64 => Values::Float64(array.as_primitive()),
        DataType::Decimal32(_, scale) => Values::Decimal32(array.as_primitive(), *scale),
        DataType::Decimal64(_, scale) => Values::Decimal64(array.as_primitive(), *scale),
        DataType::Decimal128(_, scale) => Values::Decimal128(array.as_primitive(), *scale),
        DataType::Decimal256(_, scale) => Values::Decimal256(array.as_primitive(), *scale),
        DataType::Utf8 => Values::Utf8(array.as_string()),
        DataType::LargeUtf8 => Values::LargeUtf8(array.as_string()),
        DataType::Utf8View => Values::Utf8View(array.as_string_view()),
        DataType::Binary => Values::Binary(array.as_binary()),
        DataType::LargeBinary => Values::LargeBinary(array.as_binary()),
        DataType::BinaryView => Values::BinaryView(array.as_binary_view()),
        DataType::FixedSizeBinary(_) => Values::FixedBinary(array.as_fixed_size_binary()),
        DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(_, _)
        | DataType::Duration(_)
        | DataType::Interval(_) => times_of(array)?,
        DataType::Struct(fields) => Values::Struct(children_of(fields, array)?),
        DataType::Dictionary(_, _) => dictionary_of(array)?,
        DataType::RunEndEncoded(ends, values) => match ends.data_type() {
            DataType::Int16 => runs_of::<Int16Type>(array, values)?,
            DataType::Int32 => runs_of::<Int32Type>(array, values)?,
            _ => runs_of::<Int64Type>(array, values)?,
        },
        DataType::Union(_, _) => {
            let shown = ArrayFormatter::try_new(array, &SHOWN).map_err(|error| {
                Error::unsupported("a value of this type cannot be shown").with_source(error)
            })?;
            Values::Shown(shown)
        }
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(_, _)
        | DataType::Map(_, _) => lists_of(array)?,
    })
}

const SHOWN: FormatOptions<'static> = FormatOptions::new();

fn times_of(array: &dyn Array) -> Result<Values<'_>> {
    Ok(match array.data_type() {
        DataType::Date32 => Values::Date32(array.as_primitive()),
        DataType::Date64 => Values::Date64(array.as_primitive()),
        DataType::Time32(TimeUnit::Second) => {
            Values::Time32(buffer::<Time32SecondType>(array), TimeUnit::Second)
        }
        DataType::Time32(unit) => Values::Time32(buffer::<Time32MillisecondType>(array), *unit),
        DataType::Time64(TimeUnit::Nanosecond) => {
            Values::Time64(buffer::<Time64NanosecondType>(array), TimeUnit::Nanosecond)
        }
        DataType::Time64(unit) => Values::Time64(buffer::<Time64MicrosecondType>(array), *unit),
        DataType::Timestamp(unit, _) => Values::Timestamp(timestamp_buffer(array, *unit), *unit),
        DataType::Duration(unit) => Values::Duration(duration_buffer(array, *unit), *unit),
        DataType::Interval(IntervalUnit::YearMonth) => Values::YearMonth(array.as_primitive()),
        DataType::Interval(IntervalUnit::DayTime) => Values::DayTime(array.as_primitive()),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            Values::MonthDayNano(array.as_primitive())
        }
        other => return Err(Error::internal(format!("{other} is not a type of times"))),
    })
}

fn buffer<T: ArrowPrimitiveType>(array: &dyn Array) -> &ScalarBuffer<T::Native> {
    array.as_primitive::<T>().values()
}

fn timestamp_buffer(array: &dyn Array, unit: TimeUnit) -> &ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => buffer::<TimestampSecondType>(array),
        TimeUnit::Millisecond => buffer::<TimestampMillisecondType>(array),
        TimeUnit::Microsecond => buffer::<TimestampMicrosecondType>(array),
        TimeUnit::Nanosecond => buffer::<TimestampNanosecondType>(array),
    }
}

fn duration_buffer(array: &dyn Array, unit: TimeUnit) -> &ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => buffer::<DurationSecondType>(array),
        TimeUnit::Millisecond => buffer::<DurationMillisecondType>(array),
        TimeUnit::Microsecond => buffer::<DurationMicrosecondType>(array),
        TimeUnit::Nanosecond => buffer::<DurationNanosecondType>(array),
    }
}

fn lists_of(array: &dyn Array) -> Result<Values<'_>> {
    let list = |spans, element: &FieldRef, child| -> Result<_> {
        Ok(Values::List(spans, Box::new(Column::new(element, child)?)))
    };
    match array.data_type() {
        DataType::List(element) => {
            let array = array.as_list::<i32>();
            list(Spans::Small(array.value_offsets()), element, array.values())
        }
        DataType::LargeList(element) => {
            let array = array.as_list::<i64>();
            list(Spans::Large(array.value_offsets()), element, array.values())
        }
        DataType::ListView(element) => {
            let array = array.as_list_view::<i32>();
            list(Spans::View(array.value_offsets(), array.value_sizes()), element, array.values())
        }
        DataType::LargeListView(element) => {
            let array = array.as_list_view::<i64>();
            let spans = Spans::LargeView(array.value_offsets(), array.value_sizes());
            list(spans, element, array.values())
        }
        DataType::FixedSizeList(element, length) => {
            let array = array.as_fixed_size_list();
            let start = usize::try_from(array.value_offset(0)).unwrap_or(0);
            let length = usize::try_from(*length).unwrap_or(0);
            list(Spans::Fixed { start, length }, element, array.values())
        }
        _ => {
            let array = array.as_map();
            let (key, value) = array.entries_fields();
            Ok(Values::Map(
                Spans::Small(array.value_offsets()),
                Box::new(Column::new(key, array.keys())?),
                Box::new(Column::new(value, array.values())?),
            ))
        }
    }
}

fn children_of<'a>(fields: &'a Fields, array: &'a dyn Array) -> Result<Vec<(&'a str, Column<'a>)>> {
    let children = fields.iter().zip(array.as_struct().columns());
    children.map(|(field, child)| Ok((field.name().as_str(), Column::new(field, child)?))).collect()
}

fn dictionary_of(array: &dyn Array) -> Result<Values<'_>> {
    let array = array.as_any_dictionary();
    let values: &dyn Array = array.values();
    if values.is_empty() {
        return Ok(Values::Null);
    }
    let field = Field::new("value", values.data_type().clone(), true);
    Ok(Values::Indexed(array.normalized_keys(), Box::new(Column::new(&field, values)?)))
}

fn runs_of<'a, R: RunEndIndexType>(array: &'a dyn Array, of: &Field) -> Result<Values<'a>> {
    let array = array.as_run::<R>();
    let index = (0..array.len()).map(|row| array.get_physical_index(row)).collect();
    let values: &'a dyn Array = array.values();
    Ok(Values::Indexed(index, Box::new(Column::new(of, values)?)))
}
