//! Intervals: months, days and microseconds, each with its own sign.
//!
//! What it guarantees: the spelling of PostgreSQL's `IntervalStyle = postgres`
//! (`EncodeInterval` in its datetime.c).

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, DurationMicrosecondType, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, TimeUnit,
};
use bytes::BufMut;
use kho_catalog::error::{Error, Result};

use super::spelled::{micros_of, write_fraction};
use crate::errors::from_arrow;
use crate::input::calendar::{DAY_MICROS, out_of_range};

/// A span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

impl Interval {
    /// What lies between two times, by days of 24 hours and the rest; digits below a microsecond are
    /// dropped, towards zero.
    ///
    /// # Errors
    /// `22008` where microseconds cannot hold it.
    pub fn of_duration(value: i64, unit: TimeUnit) -> Result<Interval> {
        let micros = match unit {
            TimeUnit::Nanosecond => value / 1_000,
            _ => micros_of(value, unit, "interval")?,
        };
        let days = i32::try_from(micros / DAY_MICROS).map_err(|_| out_of_range("interval"))?;
        Ok(Interval { months: 0, days, micros: micros % DAY_MICROS })
    }

    /// Months, days and nanoseconds, of which digits below a microsecond are dropped.
    pub fn of_parts(value: IntervalMonthDayNano) -> Interval {
        let micros = value.nanoseconds / 1_000;
        Interval { months: value.months, days: value.days, micros }
    }

    /// The intervals of a column of spans of time.
    ///
    /// # Errors
    /// `22008` for a length that no interval has, `XX000` for a column of something else.
    pub(crate) fn of_column(column: &ArrayRef) -> Result<Vec<Option<Interval>>> {
        if let DataType::Duration(_) = column.data_type() {
            // The same number in microseconds, or a length that is too much.
            let micros = cast(column, &DataType::Duration(TimeUnit::Microsecond))?;
            let micros = micros.as_primitive::<DurationMicrosecondType>().iter();
            let of = |micros| Interval::of_duration(micros, TimeUnit::Microsecond);
            return micros.map(|micros| micros.map(of).transpose()).collect();
        }
        let spans = cast(column, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        match spans.as_primitive_opt::<IntervalMonthDayNanoType>() {
            Some(spans) => Ok(spans.iter().map(|it| it.map(Interval::of_parts)).collect()),
            None => Err(Error::internal("a span of time is none")),
        }
    }

    pub fn write_text(self, out: &mut impl BufMut) {
        let mut part = Parts { is_first: true, was_negative: false };
        part.write(i64::from(self.months / 12), "year", out);
        part.write(i64::from(self.months % 12), "mon", out);
        part.write(i64::from(self.days), "day", out);
        if self.micros == 0 && !part.is_first {
            return;
        }
        if !part.is_first {
            out.put_u8(b' ');
        }
        if self.micros < 0 {
            out.put_u8(b'-');
        } else if part.was_negative {
            out.put_u8(b'+');
        }
        let micros = self.micros.unsigned_abs();
        let seconds = micros / 1_000_000;
        write_two(seconds / 3_600, out);
        out.put_u8(b':');
        write_two(seconds / 60 % 60, out);
        out.put_u8(b':');
        write_two(seconds % 60, out);
        write_fraction(i64::try_from(micros % 1_000_000).unwrap_or_default(), out);
    }
}

struct Parts {
    is_first: bool,
    /// A positive part after a negative one gets a plus sign.
    was_negative: bool,
}

impl Parts {
    fn write(&mut self, value: i64, unit: &str, out: &mut impl BufMut) {
        if value == 0 {
            return;
        }
        if !self.is_first {
            out.put_u8(b' ');
        }
        if self.was_negative && value > 0 {
            out.put_u8(b'+');
        }
        out.put_slice(itoa::Buffer::new().format(value).as_bytes());
        out.put_u8(b' ');
        out.put_slice(unit.as_bytes());
        if value != 1 {
            out.put_u8(b's');
        }
        self.was_negative = value < 0;
        self.is_first = false;
    }
}

fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, to, &options).map_err(|error| from_arrow(&error))
}

/// At least two digits.
fn write_two(value: u64, out: &mut impl BufMut) {
    if value < 10 {
        out.put_u8(b'0');
    }
    out.put_slice(itoa::Buffer::new().format(value).as_bytes());
}
