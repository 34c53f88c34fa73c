//! Parts of times: `extract`, whose values are numeric, and `date_part`, whose values are floats.
//!
//! # Why
//! The engine's are whole numbers, so that a second has no fraction, and it knows no decades, centuries and
//! millennia.
//! What it guarantees: PostgreSQL's values and types for the fields of times.
//! What it does not: `epoch` is the engine's, a float for both.

use kho_catalog::error::Result;
use sqlparser::ast::{DataType, ExactNumberInfo, Expr};

use super::{called, cast, string};

/// `EXTRACT(field FROM …)`; `None` where it stands for itself.
pub(super) fn extracted(whole: &Expr) -> Result<Option<Expr>> {
    let Expr::Extract { field, expr, .. } = whole else { return Ok(None) };
    let field = field.to_string().trim_matches('\'').to_ascii_lowercase();
    // The planner would take the engine's function for it.
    let named = || called("date_part", [string(&field), expr.as_ref().clone()]);
    if field == "epoch" {
        return Ok(Some(named()));
    }
    let Some(part) = Part::named(&field) else { return Ok(None) };
    let (digits, scale) = match part {
        Part::Whole | Part::Years(_) => (10, 0),
        Part::Micros(each) => (14, u64::from(each.ilog10())),
    };
    let value = match part {
        Part::Whole => named(),
        Part::Years(each) => years(expr, each)?,
        Part::Micros(1) => crate::parse::expression(&micros(expr))?,
        Part::Micros(each) => {
            let micros = format!("CAST({} AS numeric(14, 6)) / {each}", micros(expr));
            crate::parse::expression(&micros)?
        }
    };
    // A minute has eight digits of them, whatever they are.
    let digits = if scale == 6 {
        8
    } else if scale == 3 {
        11
    } else {
        digits
    };
    let scale = i64::try_from(scale).unwrap_or_default();
    let of = DataType::Numeric(ExactNumberInfo::PrecisionAndScale(digits, scale));
    Ok(Some(cast(value, of)))
}

/// `date_part('field', time)`; `None` where it stands for itself.
pub(super) fn float_part(field: &str, time: &Expr, whole: &Expr) -> Result<Option<Expr>> {
    let Some(part) = Part::named(&field.to_ascii_lowercase()) else { return Ok(None) };
    let value = match part {
        Part::Whole => whole.clone(),
        Part::Years(each) => years(time, each)?,
        Part::Micros(1) => crate::parse::expression(&micros(time))?,
        Part::Micros(each) => crate::parse::expression(&format!(
            "CAST({} AS double precision) / {each}",
            micros(time)
        ))?,
    };
    Ok(Some(cast(value, DataType::DoublePrecision)))
}

enum Part {
    /// As the engine has it.
    Whole,
    /// So many years.
    Years(u32),
    /// So many microseconds, within a minute.
    Micros(u32),
}

impl Part {
    fn named(field: &str) -> Option<Part> {
        Some(match field {
            "year" | "years" | "quarter" | "month" | "months" | "week" | "weeks" | "day"
            | "days" | "hour" | "hours" | "minute" | "minutes" | "dow" | "doy" | "isodow"
            | "isoyear" => Part::Whole,
            "decade" | "decades" => Part::Years(10),
            "century" | "centuries" => Part::Years(100),
            "millennium" | "millennia" | "millenium" => Part::Years(1000),
            "second" | "seconds" => Part::Micros(1_000_000),
            "millisecond" | "milliseconds" => Part::Micros(1000),
            "microsecond" | "microseconds" => Part::Micros(1),
            _ => return None,
        })
    }
}

fn micros(time: &Expr) -> String {
    format!("date_part('microsecond', {time})")
}

/// The decade, century or millennium: the latter two have no 0, and begin with a year 1.
fn years(time: &Expr, each: u32) -> Result<Expr> {
    let year = format!("CAST(date_part('year', {time}) AS integer)");
    let (up, last) = (each - 1, each - 2);
    crate::parse::expression(&match each {
        10 => format!(
            "(CASE WHEN {year} >= 0 THEN {year} / 10 ELSE -(({last} - ({year} - 1)) / 10) END)"
        ),
        _ => format!(
            "(CASE WHEN {year} > 0 THEN ({year} + {up}) / {each} \
             ELSE -(({up} - ({year} - 1)) / {each}) END)"
        ),
    })
}
