//! Days and microseconds as dates and times of day, and their text.
//!
//! What it guarantees: the proleptic Gregorian calendar over the whole range of Arrow's types, not
//! only the years that chrono holds; PostgreSQL's ISO spelling (`0044-03-15 BC`, `12345-01-01`,
//! fractions without trailing zeros).
//! The day count is Howard Hinnant's algorithm ("chrono-Compatible Low-Level Date Algorithms").

use arrow::datatypes::TimeUnit;
use bytes::{BufMut, BytesMut};
use kho_catalog::error::{Error, Kind, Result};

pub(super) const DAY_SECONDS: i64 = 86_400;
pub(super) const DAY_MICROS: i64 = DAY_SECONDS * 1_000_000;
/// From the Unix epoch to PostgreSQL's, 2000-01-01.
pub(super) const EPOCH_SHIFT_DAYS: i64 = 10_957;
pub(super) const EPOCH_SHIFT_MICROS: i64 = EPOCH_SHIFT_DAYS * DAY_MICROS;

/// How a date and its time are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `2024-01-05 10:00:00+07`
    Postgres,
    /// `2024-01-05T10:00:00+07:00`, as PostgreSQL writes inside of JSON.
    Xsd,
}

/// Year (0 is 1 BC), month and day of a count of days since 1970-01-01.
pub(super) fn civil_of_days(days: i64) -> (i64, u8, u8) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, small(month), small(day))
}

/// Days since 1970-01-01 of a date that exists; see [`days_in_month`].
pub(super) fn days_of_civil(year: i64, month: u8, day: u8) -> i64 {
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let month_index = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * month_index + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

pub(super) fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// A time in `unit` as microseconds; finer digits are dropped.
///
/// # Errors
/// `22008` where microseconds cannot hold it.
pub(super) fn micros_of(value: i64, unit: TimeUnit, what: &str) -> Result<i64> {
    let micros = match unit {
        TimeUnit::Second => value.checked_mul(1_000_000),
        TimeUnit::Millisecond => value.checked_mul(1_000),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond => Some(value.div_euclid(1_000)),
    };
    micros.ok_or_else(|| out_of_range(what))
}

pub(super) fn out_of_range(what: &str) -> Error {
    Error::new(Kind::DatetimeOverflow, format!("{what} out of range"))
}

pub(super) fn write_date(days: i64, out: &mut BytesMut) {
    let (year, month, day) = civil_of_days(days);
    write_civil(year, month, day, out);
    if year <= 0 {
        out.put_slice(b" BC");
    }
}

/// A time of day, `24:00:00` included.
pub(super) fn write_time(micros: i64, out: &mut BytesMut) {
    let seconds = micros.div_euclid(1_000_000);
    let mut clock = *b"00:00:00";
    write_two(&mut clock, 0, seconds / 3_600);
    write_two(&mut clock, 3, seconds / 60 % 60);
    write_two(&mut clock, 6, seconds % 60);
    out.put_slice(&clock);
    write_fraction(micros.rem_euclid(1_000_000), out);
}

/// Microseconds of a second, as `.5` or nothing.
pub(super) fn write_fraction(micros: i64, out: &mut BytesMut) {
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
pub(super) fn write_timestamp(
    micros: i64,
    offset_seconds: Option<i32>,
    style: Style,
    out: &mut BytesMut,
) -> Result<()> {
    let shift_micros = i64::from(offset_seconds.unwrap_or(0)) * 1_000_000;
    let local = micros.checked_add(shift_micros).ok_or_else(|| out_of_range("timestamp"))?;
    let (year, month, day) = civil_of_days(local.div_euclid(DAY_MICROS));
    write_civil(year, month, day, out);
    out.put_u8(if style == Style::Xsd { b'T' } else { b' ' });
    write_time(local.rem_euclid(DAY_MICROS), out);
    if let Some(offset_seconds) = offset_seconds {
        write_offset(offset_seconds, style, out);
    }
    if year <= 0 {
        out.put_slice(b" BC");
    }
    Ok(())
}

fn write_offset(offset_seconds: i32, style: Style, out: &mut BytesMut) {
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

fn write_civil(year: i64, month: u8, day: u8, out: &mut BytesMut) {
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
