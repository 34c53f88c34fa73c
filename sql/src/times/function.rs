//! The functions that conversions of times become.
//!
//! What it guarantees: NULL for NULL, and the zone of the statement that they were planned in.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, TimestampMicrosecondType};
use datafusion::common::{Result as PlanResult, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};

use super::convert::{SECOND, converted, instant_of, instants_of, wall_clock};
use super::spelled::Style;
use super::{CLOCK, instants, later};
use crate::errors::to_engine;
use crate::input::zone::{Offsets, Zone};
use crate::text::of_column;

/// Those that give a value for every argument.
pub(crate) const TOTAL: &[&str] = &[WALL_CLOCK, INSTANT, TEXT, TRUNCATED];

const WALL_CLOCK: &str = "wall_clock";
const INSTANT: &str = "instant_of_clock";
const TEXT: &str = "text_of";
const TRUNCATED: &str = "truncated_instant";

/// One of them, in a zone.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct InZone {
    what: What,
    zone: Zone,
    signature: Signature,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// What a clock shows at an instant.
    WallClock,
    /// The instant at which a clock shows this.
    Instant,
    Text(Style),
    /// The instant of what a clock shows that was cut off at a field: the field, that, and the
    /// instant that it was cut off from.
    Truncated,
    /// An instant with an interval added.
    Later,
    /// An instant with an interval taken from it.
    Earlier,
    /// The instant so many seconds after the epoch.
    OfEpoch,
    /// Arrays of times as arrays of others.
    Cast(DataType),
}

impl InZone {
    pub(super) fn new(what: What, zone: Zone) -> InZone {
        InZone { what, zone, signature: Signature::variadic_any(Volatility::Immutable) }
    }

    fn computed(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let zone = self.zone;
        Ok(match (&self.what, columns) {
            (What::WallClock, [at]) => {
                Arc::new(wall_clock(at.as_primitive::<TimestampMicrosecondType>(), zone))
            }
            (What::Instant, [local]) => {
                Arc::new(instants_of(local.as_primitive::<TimestampMicrosecondType>(), zone))
            }
            (What::Text(style), [value]) => of_column(value, zone, *style)?,
            (What::Truncated, [field, local, at]) => truncated(field, local, at, zone)?,
            (What::Later, [at, by]) => Arc::new(later::moved(at, by, true, zone)?),
            (What::Earlier, [at, by]) => Arc::new(later::moved(at, by, false, zone)?),
            (What::OfEpoch, [seconds]) => of_epoch(seconds)?,
            (What::Cast(to), [column]) => converted(column, to, zone)?,
            _ => return Err(Error::internal("a conversion of times has other arguments")),
        })
    }
}

impl ScalarUDFImpl for InZone {
    fn name(&self) -> &str {
        match &self.what {
            What::WallClock => WALL_CLOCK,
            What::Instant => INSTANT,
            What::Text(_) => TEXT,
            What::Truncated => TRUNCATED,
            What::Later => "later_instant",
            What::Earlier => "earlier_instant",
            What::OfEpoch => "to_timestamp",
            What::Cast(_) => "array_of_times",
        }
    }

    /// Casts of one column to two types are not to share a name.
    fn schema_name(&self, args: &[Expr]) -> PlanResult<String> {
        let names: Vec<_> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        let names = names.join(",");
        Ok(match &self.what {
            What::Cast(to) => format!("{}({names},{to})", self.name()),
            What::Text(Style::Xsd) => format!("{}({names},xsd)", self.name()),
            _ => format!("{}({names})", self.name()),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(match &self.what {
            What::WallClock => CLOCK,
            What::Text(_) => DataType::Utf8,
            What::Cast(to) => to.clone(),
            What::Instant | What::Truncated | What::Later | What::Earlier | What::OfEpoch => {
                instants()
            }
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let is_one = args.args.iter().all(|it| matches!(it, ColumnarValue::Scalar(_)));
        let rows = if is_one { 1 } else { args.number_rows };
        let columns = args.args.into_iter().map(|it| it.into_array(rows));
        let columns = columns.collect::<PlanResult<Vec<_>>>()?;
        // The optimizer asks what becomes of a row that is not there.
        if columns.iter().any(|column| column.data_type().is_null()) {
            let none = ScalarValue::try_new_null(&self.return_type(&[])?)?;
            return Ok(ColumnarValue::Scalar(none));
        }
        let made = self.computed(&columns).map_err(to_engine)?;
        match is_one {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)),
            false if made.len() == rows => Ok(ColumnarValue::Array(made)),
            false => exec_err!("a conversion of times gave another number of rows"),
        }
    }
}

/// Up to hours the offset stays as it was: an hour that is shown twice is cut off where it is. Days
/// begin when a clock shows it.
fn truncated(field: &ArrayRef, local: &ArrayRef, at: &ArrayRef, zone: Zone) -> Result<ArrayRef> {
    const SHORT: [&str; 5] = ["hour", "minute", "second", "millisecond", "microsecond"];
    let field = match field.is_empty() {
        true => String::new(),
        false => ScalarValue::try_from_array(field, 0)
            .map_err(crate::errors::from_engine)?
            .try_as_str()
            .flatten()
            .unwrap_or_default()
            .to_ascii_lowercase(),
    };
    let local = local.as_primitive::<TimestampMicrosecondType>();
    if !SHORT.contains(&field.strip_suffix('s').unwrap_or(&field)) {
        return Ok(Arc::new(instants_of(local, zone)));
    }
    let offsets = Offsets::default();
    let at = at.as_primitive::<TimestampMicrosecondType>();
    let offset = |at: i64| i64::from(offsets.at(zone, at.div_euclid(SECOND))) * SECOND;
    let cut =
        arrow::compute::binary::<_, _, _, TimestampMicrosecondType>(local, at, |local, at| {
            local.saturating_sub(offset(at))
        });
    let cut = cut.map_err(|error| crate::errors::from_arrow(&error))?;
    Ok(Arc::new(cut.with_timezone("UTC")))
}

fn of_epoch(seconds: &ArrayRef) -> Result<ArrayRef> {
    let out_of_range = |seconds: f64| {
        let message = format!("timestamp out of range: \"{seconds}\"");
        Error::new(Kind::DatetimeOverflow, message)
    };
    #[expect(clippy::cast_possible_truncation, reason = "it was compared with the range before")]
    let micros = |seconds: f64| {
        let micros = (seconds * 1e6).round_ties_even();
        // The first whole number beyond, as a float.
        match micros.abs() < 9_223_372_036_854_775_808.0 {
            true => Ok(micros as i64),
            false => Err(out_of_range(seconds)),
        }
    };
    let seconds = seconds.as_primitive::<Float64Type>();
    let instants = seconds.try_unary::<_, TimestampMicrosecondType, Error>(micros)?;
    Ok(Arc::new(instants.with_timezone("UTC")))
}

/// The instant at which a clock in `zone` shows this, and back, for one value each.
pub(super) fn across(micros: i64, is_instant: bool, zone: Zone) -> i64 {
    match is_instant {
        true => {
            micros.saturating_add(i64::from(zone.offset_at(micros.div_euclid(SECOND))) * SECOND)
        }
        false => instant_of(micros, zone),
    }
}
