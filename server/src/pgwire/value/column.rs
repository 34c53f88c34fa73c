//! One column of a batch, looked at once so that its values can be written without looking again.
//!
//! What it guarantees: every Arrow array is taken; dictionaries and runs are followed by index,
//! not unpacked. NULL is the array's logical NULL: a dictionary's NULL value is one too.

mod layout;

use std::ops::Range;

use arrow::array::{
    Array, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Date64Array, Decimal32Array,
    Decimal64Array, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, Float16Array,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    IntervalDayTimeArray, IntervalMonthDayNanoArray, IntervalYearMonthArray, LargeBinaryArray,
    LargeStringArray, StringArray, StringViewArray, UInt8Array, UInt16Array, UInt32Array,
    UInt64Array,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{Field, TimeUnit};
use arrow::util::display::ArrayFormatter;
use kho_catalog::error::Result;
use kho_sql::input::zone::{Offsets, Zone};
use kho_sql::session::ValueFormat;

use super::wire::Wire;

/// What the session says of the text of values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spelling {
    pub zone: Zone,
    pub float_digits: i32,
}

impl Spelling {
    pub(super) fn new(format: &ValueFormat) -> Result<Spelling> {
        Ok(Spelling {
            zone: Zone::of_setting(&format.time_zone)?,
            float_digits: format.extra_float_digits,
        })
    }
}

/// A column that is ready to be written row by row.
pub(super) struct Column<'a> {
    pub(super) wire: Wire,
    nulls: Option<NullBuffer>,
    pub(super) values: Values<'a>,
    pub(super) offsets: Offsets,
}

/// The values of a column, by their layout in memory.
pub(super) enum Values<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Int8(&'a Int8Array),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    UInt8(&'a UInt8Array),
    UInt16(&'a UInt16Array),
    UInt32(&'a UInt32Array),
    UInt64(&'a UInt64Array),
    Float16(&'a Float16Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Decimal32(&'a Decimal32Array, i8),
    Decimal64(&'a Decimal64Array, i8),
    Decimal128(&'a Decimal128Array, i8),
    Decimal256(&'a Decimal256Array, i8),
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    FixedBinary(&'a FixedSizeBinaryArray),
    Date32(&'a Date32Array),
    Date64(&'a Date64Array),
    Time32(&'a ScalarBuffer<i32>, TimeUnit),
    Time64(&'a ScalarBuffer<i64>, TimeUnit),
    Timestamp(&'a ScalarBuffer<i64>, TimeUnit),
    Duration(&'a ScalarBuffer<i64>, TimeUnit),
    YearMonth(&'a IntervalYearMonthArray),
    DayTime(&'a IntervalDayTimeArray),
    MonthDayNano(&'a IntervalMonthDayNanoArray),
    List(Spans<'a>, Box<Column<'a>>),
    Map(Spans<'a>, Box<Column<'a>>, Box<Column<'a>>),
    Struct(Vec<(&'a str, Column<'a>)>),
    /// A dictionary or runs: the row's place among the values.
    Indexed(Vec<usize>, Box<Column<'a>>),
    /// What PostgreSQL has nothing like (unions): as Arrow shows it.
    Shown(ArrayFormatter<'a>),
}

/// Which part of its child a list's row is.
pub(super) enum Spans<'a> {
    Small(&'a [i32]),
    Large(&'a [i64]),
    Fixed { start: usize, length: usize },
    View(&'a [i32], &'a [i32]),
    LargeView(&'a [i64], &'a [i64]),
}

impl Spans<'_> {
    pub(super) fn of_row(&self, row: usize) -> Range<usize> {
        let between = |start: Option<i64>, end: Option<i64>| {
            let place = |at: Option<i64>| usize::try_from(at.unwrap_or(0)).unwrap_or(0);
            place(start)..place(end)
        };
        let small = |values: &[i32], at: usize| values.get(at).copied().map(i64::from);
        match self {
            Spans::Small(offsets) => between(small(offsets, row), small(offsets, row + 1)),
            Spans::Large(offsets) => {
                between(offsets.get(row).copied(), offsets.get(row + 1).copied())
            }
            Spans::Fixed { start, length } => {
                let first = start + row * length;
                first..first + length
            }
            Spans::View(starts, sizes) => {
                let (start, size) = (small(starts, row), small(sizes, row));
                between(start, start.zip(size).map(|(start, size)| start + size))
            }
            Spans::LargeView(starts, sizes) => {
                let (start, size) = (starts.get(row).copied(), sizes.get(row).copied());
                between(start, start.zip(size).map(|(start, size)| start + size))
            }
        }
    }
}

impl<'a> Column<'a> {
    /// Looks at an array that holds values of `field`.
    pub(super) fn new(field: &Field, array: &'a dyn Array) -> Result<Column<'a>> {
        let wire = if field.data_type() == array.data_type() {
            Wire::of_field(field)
        } else {
            Wire::of_field(&field.clone().with_data_type(array.data_type().clone()))
        };
        Ok(Column {
            wire,
            nulls: array.logical_nulls().filter(|nulls| nulls.null_count() > 0),
            values: layout::values_of(array)?,
            offsets: Offsets::default(),
        })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// The text of a row whose type is carried as text.
    pub(super) fn as_text(&self, row: usize) -> Option<&str> {
        match &self.values {
            Values::Utf8(array) => Some(array.value(row)),
            Values::LargeUtf8(array) => Some(array.value(row)),
            Values::Utf8View(array) => Some(array.value(row)),
            Values::Indexed(index, values) => values.as_text(*index.get(row)?),
            _ => None,
        }
    }

    /// The bytes of a row of `bytea`.
    pub(super) fn as_bytes(&self, row: usize) -> Option<&[u8]> {
        match &self.values {
            Values::Binary(array) => Some(array.value(row)),
            Values::LargeBinary(array) => Some(array.value(row)),
            Values::BinaryView(array) => Some(array.value(row)),
            Values::FixedBinary(array) => Some(array.value(row)),
            _ => None,
        }
    }
}

/// The `row`th of an array that is no shorter than the batch.
pub(super) fn at<T: Copy + Default>(values: &[T], row: usize) -> T {
    values.get(row).copied().unwrap_or_default()
}
