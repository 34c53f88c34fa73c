//! Intervals added to instants.
//!
//! What it guarantees: PostgreSQL's order: months, then days, each on the calendar of the zone, then
//! hours and what is less, which pass the same everywhere.
//! On failure: `22008` beyond the range of instants.

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{IntervalMonthDayNano, IntervalMonthDayNanoType, TimestampMicrosecondType};
use kho_catalog::error::Result;

use super::convert::{SECOND, instant_of};
use crate::input::calendar::{
    DAY_MICROS, civil_of_days, days_in_month, days_of_civil, out_of_range,
};
use crate::input::zone::Zone;

/// Each instant with its interval added, or taken from it.
pub(super) fn moved(
    instants: &ArrayRef,
    intervals: &ArrayRef,
    is_later: bool,
    zone: Zone,
) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let instants = instants.as_primitive::<TimestampMicrosecondType>();
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    let mut moved = PrimitiveArray::<TimestampMicrosecondType>::builder(instants.len());
    for (at, by) in instants.iter().zip(intervals) {
        moved.append_option(match (at, by) {
            (Some(at), Some(by)) => {
                Some(one(at, by, is_later, zone).ok_or_else(|| out_of_range("timestamp"))?)
            }
            _ => None,
        });
    }
    Ok(moved.finish().with_timezone("UTC"))
}

/// `None` where there is no such instant.
fn one(at: i64, by: IntervalMonthDayNano, is_later: bool, zone: Zone) -> Option<i64> {
    let signed = |value: i64| if is_later { Some(value) } else { value.checked_neg() };
    let mut at = at;
    if by.months != 0 {
        let (day, clock) = local(at, zone)?;
        let (year, month, of_month) = civil_of_days(day);
        let months = year.checked_mul(12)?.checked_add(i64::from(month) - 1)?;
        let months = months.checked_add(signed(i64::from(by.months))?)?;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        let month = u8::try_from(month).ok()?;
        let of_month = of_month.min(days_in_month(year, month));
        at = instant(days_of_civil(year, month, of_month), clock, zone)?;
    }
    if by.days != 0 {
        let (day, clock) = local(at, zone)?;
        at = instant(day.checked_add(signed(i64::from(by.days))?)?, clock, zone)?;
    }
    at.checked_add(signed(by.nanoseconds / 1_000)?)
}

/// The day and the time of day that a clock shows.
fn local(at: i64, zone: Zone) -> Option<(i64, i64)> {
    let offset = i64::from(zone.offset_at(at.div_euclid(SECOND)));
    let local = at.checked_add(offset * SECOND)?;
    Some((local.div_euclid(DAY_MICROS), local.rem_euclid(DAY_MICROS)))
}

fn instant(day: i64, clock: i64, zone: Zone) -> Option<i64> {
    Some(instant_of(day.checked_mul(DAY_MICROS)?.checked_add(clock)?, zone))
}
