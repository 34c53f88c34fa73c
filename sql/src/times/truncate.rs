//! `date_trunc` over the whole range of times.
//!
//! # Why
//! The engine's counts nanoseconds, so that it fails outside of the years 1677 to 2262, which
//! `9999-12-31` is, and it knows no decades, centuries and millennia.
//! What it guarantees: PostgreSQL's fields of times that a clock shows, and of instants in UTC.
//! What it does not: times of day, and instants of other zones, are the engine's.
//! On failure: `22023` for another field.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::logical_expr::ScalarUDF;
use kho_catalog::error::{Error, Kind};

use super::fielded;
use crate::input::calendar::{DAY_MICROS, civil_of_days, days_of_civil};

/// The function, which stands in the place of the engine's.
pub(crate) fn function() -> Arc<ScalarUDF> {
    fielded::function(datafusion::functions::datetime::date_trunc(), |field, times| {
        let is_ours = match times.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                zone.as_deref().is_none_or(|zone| zone == "UTC")
            }
            _ => false,
        };
        is_ours.then(|| match Field::named(field) {
            Some(field) => Ok(truncated(times, field)),
            None => Err(Error::new(
                Kind::InvalidParameterValue,
                format!("unit \"{field}\" not recognized for type timestamp"),
            )),
        })
    })
}

/// What a time is cut off at.
#[derive(Clone, Copy)]
enum Field {
    /// So many microseconds, of which a day has a whole number.
    Micros(i64),
    Week,
    Months(u8),
    /// So many years, counted from the first of them or, of a decade, from 0.
    Years(i64),
}

impl Field {
    fn named(name: &str) -> Option<Field> {
        let name = name.to_ascii_lowercase();
        let name = match name.as_str() {
            "centuries" => "century",
            "millennia" => "millennium",
            other => other.strip_suffix('s').unwrap_or(other),
        };
        Some(match name {
            "microsecond" => Field::Micros(1),
            "millisecond" => Field::Micros(1_000),
            "second" => Field::Micros(1_000_000),
            "minute" => Field::Micros(60_000_000),
            "hour" => Field::Micros(3_600_000_000),
            "day" => Field::Micros(DAY_MICROS),
            "week" => Field::Week,
            "month" => Field::Months(1),
            "quarter" => Field::Months(3),
            "year" => Field::Years(1),
            "decade" => Field::Years(10),
            "century" => Field::Years(100),
            "millennium" => Field::Years(1000),
            _ => return None,
        })
    }
}

fn truncated(times: &ArrayRef, field: Field) -> ArrayRef {
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let cut = times.unary::<_, TimestampMicrosecondType>(|at| one(at, field));
    Arc::new(cut.with_timezone_opt(times.timezone().map(Arc::from)))
}

fn one(at: i64, field: Field) -> i64 {
    let days = match field {
        Field::Micros(each) => return at.saturating_sub(at.rem_euclid(each)),
        // Weeks begin on Mondays, and the epoch was a Thursday.
        Field::Week => {
            let days = at.div_euclid(DAY_MICROS);
            days - (days + 3).rem_euclid(7)
        }
        Field::Months(each) => {
            let (year, month, _) = civil_of_days(at.div_euclid(DAY_MICROS));
            days_of_civil(year, month - (month - 1) % each, 1)
        }
        Field::Years(each) => {
            let (year, _, _) = civil_of_days(at.div_euclid(DAY_MICROS));
            // There is no year 0 to begin a century with.
            let first = i64::from(each >= 100);
            days_of_civil((year - first).div_euclid(each) * each + first, 1, 1)
        }
    };
    days.saturating_mul(DAY_MICROS)
}

#[cfg(test)]
mod tests;
