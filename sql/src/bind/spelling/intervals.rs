//! Intervals as the engine reads them: so many months, days and seconds.
//!
//! # Why
//! The engine reads other texts than PostgreSQL, and a cast of a bare number as months.
//! What it guarantees: a literal is read by [`crate::input::interval`] alone.
//! What it does not: the fields of a literal (`HOUR TO MINUTE`) are refused by the planner.

use kho_catalog::error::Result;
use sqlparser::ast::{DataType, DateTimeField, Expr, Interval};

use super::calls::text;
use super::string;
use crate::input::interval::parse;

/// What stands for a literal or a cast; `None` where it stands for itself.
pub(super) fn respelled(expr: &Expr) -> Result<Option<Expr>> {
    match expr {
        Expr::Interval(it) => {
            let Some(text) = text(&it.value) else { return Ok(None) };
            let unit = it.leading_field.as_ref().map(DateTimeField::to_string);
            let text = match (&unit, text.trim().parse::<f64>()) {
                (None, _) => text.to_owned(),
                (Some(unit), Ok(_)) => format!("{text} {unit}"),
                (Some(_), Err(_)) => return Ok(None),
            };
            let value = Box::new(string(&plain(&text)?));
            Ok(Some(Expr::Interval(Interval { value, leading_field: None, ..it.clone() })))
        }
        Expr::Cast {
            expr,
            data_type: DataType::Interval { fields: None, precision: None },
            ..
        } => {
            let Some(text) = text(expr) else { return Ok(None) };
            Ok(Some(Expr::Interval(Interval {
                value: Box::new(string(&plain(text)?)),
                leading_field: None,
                leading_precision: None,
                last_field: None,
                fractional_seconds_precision: None,
            })))
        }
        _ => Ok(None),
    }
}

/// The same interval in words of the engine.
fn plain(text: &str) -> Result<String> {
    let it = parse(text)?;
    let sign = if it.micros < 0 { "-" } else { "" };
    let (seconds, micros) =
        (it.micros.unsigned_abs() / 1_000_000, it.micros.unsigned_abs() % 1_000_000);
    Ok(format!("{} months {} days {sign}{seconds}.{micros:06} seconds", it.months, it.days))
}
