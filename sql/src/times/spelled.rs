//! Dates and times of day as text.
//!
//! What it guarantees: PostgreSQL's ISO spelling (`0044-03-15 BC`, `12345-01-01`, fractions without
//! trailing zeros) over the whole range of Arrow's types.

use arrow::datatypes::TimeUnit;
use bytes::BufMut;
use kho_catalog::error::Result;

use crate::input::calendar::{DAY_MICROS, civil_of_days, out_of_range};

/// How a date and its time are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// `2024-01-05 10:00:00+07`
    Postgres,
    /// `2024-01-05T10:00:00+07:00`, as PostgreSQL writes inside of JSON.
    Xsd,
}

/// A time in `unit` as microseconds; finer digits are dropped.
///
/// # Errors
/// `22008` where microseconds cannot hold it.
pub fn micros_of(value: i64, unit: TimeUnit, what: &str) -> Result<i64> {
    let micros = match unit {
        TimeUnit::Second => value.checked_mul(1_000_000),
        TimeUnit::Millisecond => value.checked_mul(1_000),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond => Some(value.div_euclid(1_000)),
    };
    micros.ok_or_else(|| out_of_range(what))
}

pub fn write_date(days: i64, out: &mut impl BufMut) {
    let (year, month, day) = civil_of_days(days);
    write_civil(year, month, day, out);
    if year <= 0 {
        out.put_slice(b" BC");
    }
}

/// A time of day, `24:00:00` included.
pub fn write_time(micros: i64, out: &mut impl BufMut) {
    let seconds = micros.div_euclid(1_000_000);
    let mut clock = *b"00:00:00";
    write_two(&mut clock, 0, seconds / 3_600);
    write_two(&mut clock, 3, seconds / 60 % 60);
    write_two(&mut clock, 6, seconds % 60);
    out.put_slice(&clock);
    write_fraction(micros.rem_euclid(1_000_000), out);
}

/// Microseconds of a second, as `.5` or nothing.
pub fn write_fraction(micros: i64, out: &mut impl BufMut) {
    if micros == 0 {
        return;
    }
    let mut digits = *b".000000";
    write_two(&mut digits, 1, micros / 10_000);
    write_two(&mut digits, 3, micros / 100 % 100);
    write_two(&mut digits, 5, micros % 100);
    let length = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    out.put_slice(digits.get(..length).unwrap_or_default());
}

/// A local time; `offset_seconds` is written where it is stated.
///
/// # Errors
/// `22008` where the local time leaves the range of microseconds.
pub fn write_timestamp(
    micros: i64,
    offset_seconds: Option<i32>,
    style: Style,
    out: &mut impl BufMut,
) -> Result<()> {
    let shift_micros = i64::from(offset_seconds.unwrap_or(0)) * 1_000_000;
    let local = micros.checked_add(shift_micros).ok_or_else(|| out_of_range("timestamp"))?;
    let (days, clock) = (local.div_euclid(DAY_MICROS), local.rem_euclid(DAY_MICROS));
    write_local(days, clock, offset_seconds, style, out);
    Ok(())
}

/// The same for every time: a day, and a time of day in microseconds.
pub fn write_local(
    days: i64,
    clock: i64,
    offset_seconds: Option<i32>,
    style: Style,
    out: &mut impl BufMut,
) {
    let (year, month, day) = civil_of_days(days);
    write_civil(year, month, day, out);
    out.put_u8(if style == Style::Xsd { b'T' } else { b' ' });
    write_time(clock, out);
    if let Some(offset_seconds) = offset_seconds {
        write_offset(offset_seconds, style, out);
    }
    if year <= 0 {
        out.put_slice(b" BC");
    }
}

fn write_offset(offset_seconds: i32, style: Style, out: &mut impl BufMut) {
    let east = i64::from(offset_seconds.unsigned_abs());
    let mut text = *b"+00:00:00";
    if offset_seconds < 0 {
        text = *b"-00:00:00";
    }
    write_two(&mut text, 1, east / 3_600);
    write_two(&mut text, 4, east / 60 % 60);
    write_two(&mut text, 7, east % 60);
    let length = if east % 60 != 0 {
        9
    } else if east / 60 % 60 != 0 || style == Style::Xsd {
        6
    } else {
        3
    };
    out.put_slice(text.get(..length).unwrap_or_default());
}

fn write_civil(year: i64, month: u8, day: u8, out: &mut impl BufMut) {
    // There is no year 0: the one before 1 is 1 BC.
    let shown = if year <= 0 { 1 - year } else { year };
    let mut text = *b"0000-00-00";
    write_two(&mut text, 5, i64::from(month));
    write_two(&mut text, 8, i64::from(day));
    if shown < 10_000 {
        write_two(&mut text, 0, shown / 100);
        write_two(&mut text, 2, shown % 100);
        out.put_slice(&text);
    } else {
        out.put_slice(itoa::Buffer::new().format(shown).as_bytes());
        out.put_slice(text.get(4..).unwrap_or_default());
    }
}

/// Writes `value`, 0 to 99, at `at`.
fn write_two(text: &mut [u8], at: usize, value: i64) {
    if let Some([tens, ones]) = text.get_mut(at..at + 2) {
        *tens = b'0' + small(value / 10);
        *ones = b'0' + small(value % 10);
    }
}

fn small(value: i64) -> u8 {
    u8::try_from(value).unwrap_or_default()
}
