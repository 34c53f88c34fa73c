//! Values as PostgreSQL's text.
//!
//! What it guarantees: what a PostgreSQL 15 server writes for the same value, arrays with its
//! quoting included; nothing is allocated for a value, but for an array's element that holds a
//! quote or a backslash and for a numeric beyond 38 digits.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use kho_catalog::error::{Error, Result};
use kho_sql::input::calendar::{DAY_MICROS, DAY_SECONDS, out_of_range};
use kho_sql::text::float::{write_float4, write_float8};
use kho_sql::text::{quote_element, write_bytea};
use kho_sql::times::interval::Interval;
use kho_sql::times::spelled::{Style, micros_of, write_date, write_time, write_timestamp};

use super::column::{Column, Spelling, Values, at};
use super::number::{write_integer, write_numeric};
use super::wire::Wire;

impl Column<'_> {
    /// Appends the text of a row that is not NULL.
    pub(super) fn write_text(
        &self,
        row: usize,
        spelling: &Spelling,
        out: &mut BytesMut,
    ) -> Result<()> {
        match &self.values {
            Values::Null => {}
            Values::Boolean(array) => out.put_u8(if array.value(row) { b't' } else { b'f' }),
            Values::Int8(array) => write_integer(array.value(row), out),
            Values::Int16(array) => write_integer(array.value(row), out),
            Values::Int32(array) => write_integer(array.value(row), out),
            Values::Int64(array) => write_integer(array.value(row), out),
            Values::UInt8(array) => write_integer(array.value(row), out),
            Values::UInt16(array) => write_integer(array.value(row), out),
            Values::UInt32(array) => write_integer(array.value(row), out),
            Values::UInt64(array) => write_integer(array.value(row), out),
            Values::Float16(array) => {
                write_float4(array.value(row).to_f32(), spelling.float_digits, out);
            }
            Values::Float32(array) => write_float4(array.value(row), spelling.float_digits, out),
            Values::Float64(array) => write_float8(array.value(row), spelling.float_digits, out),
            Values::Decimal32(_, _)
            | Values::Decimal64(_, _)
            | Values::Decimal128(_, _)
            | Values::Decimal256(_, _) => {
                self.with_unscaled(row, |digits, scale| write_numeric(digits, scale, out));
            }
            Values::Utf8(array) => out.put_slice(array.value(row).as_bytes()),
            Values::LargeUtf8(array) => out.put_slice(array.value(row).as_bytes()),
            Values::Utf8View(array) => out.put_slice(array.value(row).as_bytes()),
            Values::Binary(_)
            | Values::LargeBinary(_)
            | Values::BinaryView(_)
            | Values::FixedBinary(_) => write_bytea(self.as_bytes(row).unwrap_or_default(), out),
            Values::Date32(_) | Values::Date64(_) => write_date(self.days(row), out),
            Values::Time32(_, _) | Values::Time64(_, _) => write_time(self.time(row)?, out),
            Values::Timestamp(_, _) => self.write_instant(row, Style::Postgres, spelling, out)?,
            Values::Duration(_, _)
            | Values::YearMonth(_)
            | Values::DayTime(_)
            | Values::MonthDayNano(_) => self.interval(row)?.write_text(out),
            Values::List(_, _) => self.write_array(row, spelling, out)?,
            Values::Map(_, _, _) | Values::Struct(_) => self.write_json(row, spelling, out)?,
            Values::Indexed(index, values) => values.write_text(at(index, row), spelling, out)?,
            Values::Shown(shown) => write!(out, "{}", shown.value(row)).map_err(|error| {
                Error::unsupported("a value of this type cannot be shown").with_source(error)
            })?,
        }
        Ok(())
    }

    /// Gives `write` a decimal's digits, with their sign, and its scale.
    pub(super) fn with_unscaled<R>(&self, row: usize, write: impl FnOnce(&str, i8) -> R) -> R {
        let mut buffer = itoa::Buffer::new();
        match &self.values {
            Values::Decimal32(array, scale) => write(buffer.format(array.value(row)), *scale),
            Values::Decimal64(array, scale) => write(buffer.format(array.value(row)), *scale),
            Values::Decimal128(array, scale) => {
                let value = array.value(row);
                // The division of 64 bits is several times as fast, and most amounts fit.
                match i64::try_from(value) {
                    Ok(value) => write(buffer.format(value), *scale),
                    Err(_) => write(buffer.format(value), *scale),
                }
            }
            Values::Decimal256(array, scale) => write(&array.value(row).to_string(), *scale),
            Values::UInt64(array) => write(buffer.format(array.value(row)), 0),
            _ => write("0", 0),
        }
    }

    /// Days since 1970-01-01.
    pub(super) fn days(&self, row: usize) -> i64 {
        match &self.values {
            Values::Date32(array) => i64::from(array.value(row)),
            Values::Date64(array) => array.value(row).div_euclid(DAY_SECONDS * 1_000),
            _ => 0,
        }
    }

    /// Microseconds since midnight.
    pub(super) fn time(&self, row: usize) -> Result<i64> {
        let micros = match &self.values {
            Values::Time32(values, unit) => micros_of(i64::from(at(values, row)), *unit, "time")?,
            Values::Time64(values, unit) => micros_of(at(values, row), *unit, "time")?,
            _ => 0,
        };
        if (0..=DAY_MICROS).contains(&micros) { Ok(micros) } else { Err(out_of_range("time")) }
    }

    /// Microseconds since the Unix epoch.
    pub(super) fn instant(&self, row: usize) -> Result<i64> {
        match &self.values {
            Values::Timestamp(values, unit) => micros_of(at(values, row), *unit, "timestamp"),
            _ => Ok(0),
        }
    }

    pub(super) fn interval(&self, row: usize) -> Result<Interval> {
        Ok(match &self.values {
            Values::Duration(values, unit) => Interval::of_duration(at(values, row), *unit)?,
            Values::YearMonth(array) => Interval { months: array.value(row), days: 0, micros: 0 },
            Values::DayTime(array) => {
                let value = array.value(row);
                let micros = i64::from(value.milliseconds) * 1_000;
                Interval { months: 0, days: value.days, micros }
            }
            Values::MonthDayNano(array) => Interval::of_parts(array.value(row)),
            _ => Interval::default(),
        })
    }

    pub(super) fn write_instant(
        &self,
        row: usize,
        style: Style,
        spelling: &Spelling,
        out: &mut BytesMut,
    ) -> Result<()> {
        let micros = self.instant(row)?;
        let offset_seconds = (self.wire == Wire::TimestampTz)
            .then(|| self.offsets.at(spelling.zone, micros.div_euclid(1_000_000)));
        write_timestamp(micros, offset_seconds, style, out)
    }

    /// `{1,NULL,"a b"}`; arrays inside of arrays without quotes, as further dimensions. A vector is
    /// `1 2`.
    fn write_array(&self, row: usize, spelling: &Spelling, out: &mut BytesMut) -> Result<()> {
        let Values::List(spans, child) = &self.values else {
            return Err(Error::internal("a value that is no array was to be written as one"));
        };
        if matches!(self.wire, Wire::Vector(_)) {
            for (count, index) in spans.of_row(row).enumerate() {
                if count > 0 {
                    out.put_u8(b' ');
                }
                child.write_text(index, spelling, out)?;
            }
            return Ok(());
        }
        let is_nested = matches!(child.wire, Wire::Array(_));
        let needs_look = !matches!(
            child.wire,
            Wire::Boolean
                | Wire::Int2
                | Wire::Int4
                | Wire::Int8
                | Wire::Oid
                | Wire::Float4
                | Wire::Float8
                | Wire::Numeric(_)
                | Wire::Time
        );
        out.put_u8(b'{');
        for (count, index) in spans.of_row(row).enumerate() {
            if count > 0 {
                out.put_u8(b',');
            }
            if child.is_null(index) {
                out.put_slice(b"NULL");
                continue;
            }
            let start = out.len();
            child.write_text(index, spelling, out)?;
            if needs_look && !is_nested {
                quote_element(start, out);
            }
        }
        out.put_u8(b'}');
        Ok(())
    }
}
