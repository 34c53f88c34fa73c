//! `… AT TIME ZONE …`: `timezone(zone, time)`, as PostgreSQL calls it.
//!
//! What it guarantees: an instant becomes what a clock there shows, and what a clock there shows an
//! instant. A day is its first instant in the session's zone. Zones are those of [`Zone::of_clause`].
//! What it does not: a zone that is an interval is refused.
//! On failure: `22023` for a zone that is none.

use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::{Result as PlanResult, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};

use super::function::across;
use super::{CLOCK, instants, is_instant};
use crate::errors::to_engine;
use crate::input::excerpt;
use crate::input::zone::Zone;

/// The function, to be registered once for all sessions.
pub(crate) fn function() -> Arc<ScalarUDF> {
    Arc::new(AtZone(Signature::user_defined(Volatility::Immutable)).into())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AtZone(Signature);

impl ScalarUDFImpl for AtZone {
    fn name(&self) -> &str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn coerce_types(&self, arguments: &[DataType]) -> PlanResult<Vec<DataType>> {
        use DataType as D;
        let [zone, time] = arguments else {
            return plan_err!("timezone takes a zone and a time");
        };
        let time = match time {
            D::Timestamp(_, None) => CLOCK,
            D::Timestamp(_, Some(_)) | D::Date32 | D::Date64 => instants(),
            D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Null => instants(),
            _ => return plan_err!("timezone takes a zone and a time"),
        };
        match zone {
            D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Null => Ok(vec![D::Utf8, time]),
            D::Interval(_) | D::Duration(_) => Ok(vec![zone.clone(), time]),
            _ => plan_err!("timezone takes a zone and a time"),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        // An error of the coercion would be told as the engine's own.
        if !matches!(arguments.first(), Some(DataType::Utf8)) {
            let error = Error::unsupported("a time zone that is an interval is not supported");
            return Err(to_engine(error.with_hint("Name the zone, as 'Asia/Ho_Chi_Minh'.")));
        }
        Ok(match arguments.get(1) {
            Some(of) if is_instant(of) => CLOCK,
            _ => instants(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let is_one = args.args.iter().all(|it| matches!(it, ColumnarValue::Scalar(_)));
        let rows = if is_one { 1 } else { args.number_rows };
        let columns = args.args.into_iter().map(|it| it.into_array(rows));
        let columns = columns.collect::<PlanResult<Vec<_>>>()?;
        let [zones, times] = columns.as_slice() else {
            return exec_err!("timezone takes a zone and a time");
        };
        let is_instant = is_instant(times.data_type());
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let mut known: Option<(&str, Zone)> = None;
        let mut made = PrimitiveArray::<TimestampMicrosecondType>::builder(times.len());
        for (name, micros) in zones.as_string::<i32>().iter().zip(times) {
            let (Some(name), Some(micros)) = (name, micros) else {
                made.append_null();
                continue;
            };
            let zone = match known {
                Some((known, zone)) if known == name => zone,
                _ => zone_of(name).map_err(to_engine)?,
            };
            known = Some((name, zone));
            made.append_value(across(micros, is_instant, zone));
        }
        let made = made.finish();
        let made = if is_instant { made } else { made.with_timezone("UTC") };
        match is_one {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(made))),
        }
    }
}

fn zone_of(name: &str) -> Result<Zone> {
    Zone::of_clause(name).ok_or_else(|| {
        Error::new(
            Kind::InvalidParameterValue,
            format!("time zone \"{}\" not recognized", excerpt(name)),
        )
    })
}
