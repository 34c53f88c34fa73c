//! Lengths and products of spans, as PostgreSQL computes them.

use arrow::datatypes::IntervalMonthDayNano;
use kho_catalog::error::Kind;

use super::{length, product};
use crate::errors::from_engine;

const HOUR: i64 = 3_600_000_000_000;

fn span(months: i32, days: i32, hours: i64) -> IntervalMonthDayNano {
    IntervalMonthDayNano::new(months, days, hours * HOUR)
}

#[test]
fn a_month_is_thirty_days_and_a_day_is_24_hours() {
    assert_eq!(length(span(1, 0, 0)), length(span(0, 30, 0)));
    assert_eq!(length(span(0, 1, 0)), length(span(0, 0, 24)));
    assert!(length(span(1, 0, 0)) < length(span(0, 31, 0)));
    assert!(length(span(i32::MAX, i32::MAX, 0)) > length(span(i32::MAX, 0, 0)));
}

#[test]
fn what_is_left_of_months_goes_to_days_and_what_is_left_of_those_to_hours() {
    assert_eq!(product(span(1, 1, 0), |it| it * 1.5).unwrap(), span(1, 16, 12));
    assert_eq!(product(span(1, 0, 0), |it| it / 4.0).unwrap(), span(0, 7, 12));
    assert_eq!(product(span(0, 0, 1), |it| it * -0.5).unwrap().nanoseconds, -HOUR / 2);
}

#[test]
fn a_product_that_is_too_large_is_refused() {
    for factor in [1e10, f64::INFINITY, f64::NAN] {
        let error = product(span(1, 0, 0), |it| it * factor).unwrap_err();
        assert_eq!(from_engine(error).kind(), Kind::DatetimeOverflow);
    }
    let error = product(span(0, 0, 1), |it| it * 1e10).unwrap_err();
    assert_eq!(from_engine(error).kind(), Kind::DatetimeOverflow);
}
