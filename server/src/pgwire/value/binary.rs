//! Values in PostgreSQL's binary form, as its `…send` functions give them.
//!
//! What it guarantees: times count from 2000-01-01 in microseconds, and what they cannot hold is
//! `22008`. Arrays inside of arrays are further dimensions and must be rectangular (`0A000`).

use bytes::{BufMut, BytesMut};
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::input::calendar::{EPOCH_SHIFT_DAYS, EPOCH_SHIFT_MICROS, out_of_range};
use kho_sql::input::parse_uuid;
use kho_sql::times::interval::Interval;

use super::column::{Column, Spelling, Values, at};
use super::number::write_numeric_binary;
use super::wire::Wire;

impl Column<'_> {
    /// Appends the binary form of a row that is not NULL, without its length.
    pub(super) fn write_binary(
        &self,
        row: usize,
        spelling: &Spelling,
        out: &mut BytesMut,
    ) -> Result<()> {
        match &self.values {
            Values::Null => {}
            Values::Boolean(array) => out.put_u8(u8::from(array.value(row))),
            Values::Int8(array) => out.put_i16(i16::from(array.value(row))),
            Values::UInt8(array) => out.put_i16(i16::from(array.value(row))),
            Values::Int16(array) => out.put_i16(array.value(row)),
            Values::UInt16(array) => out.put_i32(i32::from(array.value(row))),
            Values::Int32(array) => out.put_i32(array.value(row)),
            Values::UInt32(array) => out.put_u32(array.value(row)),
            Values::Int64(array) => out.put_i64(array.value(row)),
            Values::Float16(array) => out.put_f32(array.value(row).to_f32()),
            Values::Float32(array) => out.put_f32(array.value(row)),
            Values::Float64(array) => out.put_f64(array.value(row)),
            Values::UInt64(_)
            | Values::Decimal32(_, _)
            | Values::Decimal64(_, _)
            | Values::Decimal128(_, _)
            | Values::Decimal256(_, _) => {
                self.with_unscaled(row, |digits, scale| write_numeric_binary(digits, scale, out))?;
            }
            Values::Utf8(_) | Values::LargeUtf8(_) | Values::Utf8View(_) => {
                write_text_carrier(self.as_text(row).unwrap_or_default(), &self.wire, out)?;
            }
            Values::Binary(_)
            | Values::LargeBinary(_)
            | Values::BinaryView(_)
            | Values::FixedBinary(_) => out.put_slice(self.as_bytes(row).unwrap_or_default()),
            Values::Date32(_) | Values::Date64(_) => {
                let days = i32::try_from(self.days(row) - EPOCH_SHIFT_DAYS);
                out.put_i32(days.map_err(|_| out_of_range("date"))?);
            }
            Values::Time32(_, _) | Values::Time64(_, _) => out.put_i64(self.time(row)?),
            Values::Timestamp(_, _) => {
                let micros = self.instant(row)?.checked_sub(EPOCH_SHIFT_MICROS);
                out.put_i64(micros.ok_or_else(|| out_of_range("timestamp"))?);
            }
            Values::Duration(_, _)
            | Values::YearMonth(_)
            | Values::DayTime(_)
            | Values::MonthDayNano(_) => write_interval(self.interval(row)?, out),
            Values::List(_, _) => self.write_binary_array(row, spelling, out)?,
            Values::Map(_, _, _) | Values::Struct(_) => self.write_json(row, spelling, out)?,
            Values::Indexed(index, values) => {
                let row = at(index, row);
                match values.as_text(row) {
                    // The declared type is the column's, not the dictionary's.
                    Some(text) => write_text_carrier(text, &self.wire, out)?,
                    None => values.write_binary(row, spelling, out)?,
                }
            }
            Values::Shown(_) => self.write_text(row, spelling, out)?,
        }
        Ok(())
    }

    /// Dimensions, whether there are NULLs, the element's oid, then the elements in row order.
    fn write_binary_array(
        &self,
        row: usize,
        spelling: &Spelling,
        out: &mut BytesMut,
    ) -> Result<()> {
        let mut dimensions = Vec::new();
        self.measure(row, 0, &mut dimensions)?;
        if dimensions.first() == Some(&0) {
            dimensions.clear();
        }
        out.put_i32(i32::try_from(dimensions.len()).unwrap_or(i32::MAX));
        let flags = out.len();
        out.put_i32(0);
        out.put_u32(self.wire.scalar().oid());
        let first = if matches!(self.wire, Wire::Vector(_)) { 0 } else { 1 };
        for length in &dimensions {
            out.put_i32(i32::try_from(*length).map_err(|_| too_long())?);
            out.put_i32(first);
        }
        if self.write_elements(row, spelling, out)?
            && let Some(place) = out.get_mut(flags..flags + 4)
        {
            place.copy_from_slice(&1_i32.to_be_bytes());
        }
        Ok(())
    }

    /// Finds the length of each dimension, the same in all of the arrays of a level.
    fn measure(&self, row: usize, depth: usize, dimensions: &mut Vec<usize>) -> Result<()> {
        let Values::List(spans, child) = &self.values else { return Err(ragged()) };
        let span = spans.of_row(row);
        match dimensions.get(depth) {
            None => dimensions.push(span.len()),
            Some(length) if *length == span.len() => {}
            Some(_) => return Err(ragged()),
        }
        if !matches!(child.wire, Wire::Array(_)) {
            return Ok(());
        }
        for index in span {
            if child.is_null(index) {
                return Err(ragged());
            }
            child.measure(index, depth + 1, dimensions)?;
        }
        Ok(())
    }

    /// Appends the elements at the bottom; tells whether one of them is NULL.
    fn write_elements(&self, row: usize, spelling: &Spelling, out: &mut BytesMut) -> Result<bool> {
        let Values::List(spans, child) = &self.values else { return Ok(false) };
        let mut has_null = false;
        for index in spans.of_row(row) {
            if matches!(child.values, Values::List(_, _)) {
                has_null |= child.write_elements(index, spelling, out)?;
            } else if child.is_null(index) {
                has_null = true;
                out.put_i32(-1);
            } else {
                write_sized(out, |out| child.write_binary(index, spelling, out))?;
            }
        }
        Ok(has_null)
    }
}

fn write_text_carrier(text: &str, wire: &Wire, out: &mut BytesMut) -> Result<()> {
    if *wire != Wire::Uuid {
        out.put_slice(text.as_bytes());
        return Ok(());
    }
    let uuid = parse_uuid(text).ok_or_else(|| {
        Error::new(Kind::DataCorrupted, "a column of type uuid holds a value that is none")
    })?;
    out.put_slice(&uuid);
    Ok(())
}

/// Appends what `write` writes, with its length in front.
///
/// # Errors
/// `54000` for a value over 2 GiB.
pub(super) fn write_sized(
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<()>,
) -> Result<()> {
    let start = out.len();
    out.put_i32(0);
    write(out)?;
    let length = i32::try_from(out.len() - start - 4).map_err(|_| too_long())?;
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// As [`write_sized`], for a length that counts itself, as a message's does.
pub(super) fn write_message(
    kind: u8,
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<()>,
) -> Result<()> {
    let start = out.len();
    out.put_u8(kind);
    out.put_i32(0);
    let written = write(out).and_then(|()| {
        let length = i32::try_from(out.len() - start - 1).map_err(|_| too_long())?;
        if let Some(place) = out.get_mut(start + 1..start + 5) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    });
    if written.is_err() {
        // Half a message would end the connection; the error can still be reported.
        out.truncate(start);
    }
    written
}

fn write_interval(interval: Interval, out: &mut BytesMut) {
    out.put_i64(interval.micros);
    out.put_i32(interval.days);
    out.put_i32(interval.months);
}

fn too_long() -> Error {
    Error::new(Kind::ProgramLimitExceeded, "a row or value is too long to be sent")
        .with_detail("The protocol holds at most 2147483647 bytes.")
}

fn ragged() -> Error {
    Error::unsupported("an array whose inner arrays differ in length cannot be sent in binary")
        .with_hint("Ask for the column in text format.")
}
