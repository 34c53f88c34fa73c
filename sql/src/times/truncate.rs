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
use arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::Result;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind};

use crate::errors::to_engine;
use crate::input::calendar::{DAY_MICROS, civil_of_days, days_of_civil};

/// The function, which stands in the place of the engine's.
pub(crate) fn function() -> Arc<ScalarUDF> {
    let engines = datafusion::functions::datetime::date_trunc();
    Arc::new(ScalarUDF::from(Truncate { aliases: engines.aliases().to_vec(), engines }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Truncate {
    engines: Arc<ScalarUDF>,
    aliases: Vec<String>,
}

impl ScalarUDFImpl for Truncate {
    fn name(&self) -> &str {
        self.engines.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        self.engines.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.engines.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.engines.return_field_from_args(args)
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        self.engines.output_ordering(input)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let field = match args.args.first() {
            Some(ColumnarValue::Scalar(field)) => {
                field.try_as_str().flatten().and_then(Field::named)
            }
            _ => None,
        };
        let is_ours = |of: &DataType| match of {
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                zone.as_deref().is_none_or(|zone| zone == "UTC")
            }
            _ => false,
        };
        match (field, args.args.get(1)) {
            (Some(field), Some(ColumnarValue::Array(times))) if is_ours(times.data_type()) => {
                Ok(ColumnarValue::Array(truncated(times, field)))
            }
            (Some(field), Some(ColumnarValue::Scalar(time))) if is_ours(&time.data_type()) => {
                let cut = truncated(&time.to_array()?, field);
                ScalarValue::try_from_array(&cut, 0).map(ColumnarValue::Scalar)
            }
            (None, Some(_)) if let Some(ColumnarValue::Scalar(field)) = args.args.first() => {
                match field.try_as_str().flatten() {
                    Some(unknown) => Err(to_engine(Error::new(
                        Kind::InvalidParameterValue,
                        format!("unit \"{unknown}\" not recognized for type timestamp"),
                    ))),
                    None => self.engines.invoke_with_args(args),
                }
            }
            _ => self.engines.invoke_with_args(args),
        }
    }
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
