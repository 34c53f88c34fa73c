//! Days as dates and back.
//!
//! What it guarantees: the proleptic Gregorian calendar over the whole range of Arrow's types, not
//! only the years that chrono holds.
//! The day count is Howard Hinnant's algorithm ("chrono-Compatible Low-Level Date Algorithms").

use kho_catalog::error::{Error, Kind};

pub const DAY_SECONDS: i64 = 86_400;
pub const DAY_MICROS: i64 = DAY_SECONDS * 1_000_000;
/// PostgreSQL's first day, 4714-11-24 BC, where Julian day 0 lies.
pub const FIRST_DAY: i64 = -2_440_588;
/// From the Unix epoch to PostgreSQL's, 2000-01-01.
pub const EPOCH_SHIFT_DAYS: i64 = 10_957;
pub const EPOCH_SHIFT_MICROS: i64 = EPOCH_SHIFT_DAYS * DAY_MICROS;

/// Year (0 is 1 BC), month and day of a count of days since 1970-01-01.
pub fn civil_of_days(days: i64) -> (i64, u8, u8) {
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
pub fn days_of_civil(year: i64, month: u8, day: u8) -> i64 {
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let month_index = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * month_index + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

pub fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// `22008`: there is no such `what`.
pub fn out_of_range(what: &str) -> Error {
    Error::new(Kind::DatetimeOverflow, format!("{what} out of range"))
}

fn small(value: i64) -> u8 {
    u8::try_from(value).unwrap_or_default()
}
