//! A key's values as PostgreSQL writes them into a detail.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SessionState;
use kho_catalog::error::Result;

use crate::errors::from_arrow;

/// The values of one row; times in the session's zone.
pub(super) fn values(
    session: &SessionState,
    keys: &RecordBatch,
    row: usize,
) -> Result<Vec<String>> {
    let zone = session.config_options().execution.time_zone.as_deref().unwrap_or("UTC");
    keys.columns().iter().map(|column| value(column, row, zone)).collect()
}

fn value(column: &ArrayRef, row: usize, zone: &str) -> Result<String> {
    if column.is_null(row) {
        return Ok("null".to_owned());
    }
    let options = FormatOptions::new()
        .with_date_format(Some("%Y-%m-%d"))
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));
    let shown = |column: &ArrayRef| -> Result<String> {
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options);
        Ok(formatter.map_err(|it| from_arrow(&it))?.value(row).to_string())
    };
    match column.data_type() {
        DataType::Boolean => Ok(if column.as_boolean().value(row) { "t" } else { "f" }.to_owned()),
        DataType::Binary => Ok(format!("\\x{}", shown(column)?)),
        DataType::Timestamp(unit, Some(_)) => {
            // A zone that Arrow does not know is no reason to fail: the instant is the same.
            let text = in_zone(column, *unit, zone).and_then(|local| shown(&local));
            let text = text.or_else(|_| shown(column))?;
            let text = text.strip_suffix(":00").map(str::to_owned).unwrap_or(text);
            Ok(match text.rfind(['+', '-']) {
                Some(zone) => {
                    let (time, zone) = text.split_at(zone);
                    format!("{}{zone}", trimmed(time))
                }
                None => text,
            })
        }
        DataType::Timestamp(_, None) => Ok(trimmed(&shown(column)?).to_owned()),
        _ => shown(column),
    }
}

/// A time without the zeros at the end of its fraction.
fn trimmed(time: &str) -> &str {
    match time.contains('.') {
        true => time.trim_end_matches('0').trim_end_matches('.'),
        false => time,
    }
}
fn in_zone(column: &ArrayRef, unit: TimeUnit, zone: &str) -> Result<ArrayRef> {
    let to = DataType::Timestamp(unit, Some(zone.into()));
    cast(column, &to).map_err(|error| from_arrow(&error))
}
