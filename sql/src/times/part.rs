//! `date_part` of spans of time.
//!
//! # Why
//! The engine's parts of what lies between two times are totals, and overflow: the hours of two days and
//! nine hours are 57 to it, and 9 to PostgreSQL.
//! What it guarantees: PostgreSQL's fields of intervals, and of what lies between two times by its days.
//! What it does not: parts of times are the engine's.
//! On failure: `22023` for another field, `22008` for a part that is too large.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array};
use datafusion::logical_expr::ScalarUDF;
use kho_catalog::error::{Error, Kind, Result};

use super::fielded;
use super::interval::Interval;
use crate::input::calendar::out_of_range;
use crate::numeric::is_span;

/// The function, which stands in the place of the engine's.
pub(crate) fn function() -> Arc<ScalarUDF> {
    fielded::function(datafusion::functions::datetime::date_part(), |field, spans| {
        is_span(spans.data_type()).then(|| parts(spans, field))
    })
}

fn parts(spans: &ArrayRef, field: &str) -> Result<ArrayRef> {
    let spans = Interval::of_column(spans)?.into_iter();
    if field.eq_ignore_ascii_case("epoch") {
        let seconds = spans.map(|span| span.map(epoch));
        return Ok(Arc::new(seconds.collect::<Float64Array>()));
    }
    let of = part(field)?;
    let whole = |span: Interval| i32::try_from(of(span)).map_err(|_| out_of_range("interval"));
    let parts = spans.map(|span| span.map(whole).transpose());
    Ok(Arc::new(parts.collect::<Result<Int32Array>>()?))
}

fn part(field: &str) -> Result<fn(Interval) -> i64> {
    const SECOND: i64 = 1_000_000;
    let field = field.to_ascii_lowercase();
    Ok(match field.strip_suffix('s').unwrap_or(&field) {
        "year" => |it| i64::from(it.months / 12),
        "quarter" => |it| i64::from(it.months % 12 / 3 + 1),
        "month" => |it| i64::from(it.months % 12),
        "day" => |it| i64::from(it.days),
        "hour" => |it| it.micros / (3600 * SECOND),
        "minute" => |it| it.micros / (60 * SECOND) % 60,
        "second" => |it| it.micros / SECOND % 60,
        "millisecond" => |it| it.micros % (60 * SECOND) / 1000,
        "microsecond" => |it| it.micros % (60 * SECOND),
        _ => {
            let message = format!("unit \"{field}\" not recognized for type interval");
            return Err(Error::new(Kind::InvalidParameterValue, message));
        }
    })
}

/// In seconds, with a year of 365.25 days and a month of 30.
fn epoch(span: Interval) -> f64 {
    let days = f64::from(span.months / 12) * 365.25
        + f64::from(span.months % 12 * 30)
        + f64::from(span.days);
    #[expect(clippy::cast_precision_loss, reason = "a float has fewer digits than a long interval")]
    let seconds = span.micros as f64 / 1e6;
    days * 86_400.0 + seconds
}
