//! Columns of times as columns of other times, or of text, by a zone.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, IntervalMonthDayNanoArray, ListArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Field, IntervalMonthDayNano, TimestampMicrosecondType,
};
use kho_catalog::error::{Error, Result};

use super::interval::Interval;
use super::spelled::{Style, write_date, write_local};
use super::{CLOCK, has_own_text, instants, is_clock, is_instant, is_spelled};
use crate::errors::from_arrow;
use crate::input::calendar::{DAY_MICROS, out_of_range};
use crate::input::is_text;
use crate::input::zone::{Offsets, Zone};
use crate::numeric::is_span;
use crate::text::of_column;

pub(super) const SECOND: i64 = 1_000_000;

/// What clocks in `zone` show at instants.
pub(super) fn wall_clock(
    instants: &TimestampMicrosecondArray,
    zone: Zone,
) -> TimestampMicrosecondArray {
    let offsets = Offsets::default();
    let local =
        |at: i64| at.saturating_add(i64::from(offsets.at(zone, at.div_euclid(SECOND))) * SECOND);
    instants.unary::<_, TimestampMicrosecondType>(local)
}

/// The instants at which clocks in `zone` show these times.
pub(super) fn instants_of(
    clocks: &TimestampMicrosecondArray,
    zone: Zone,
) -> TimestampMicrosecondArray {
    clocks
        .unary::<_, TimestampMicrosecondType>(|local| instant_of(local, zone))
        .with_timezone("UTC")
}

/// The instant at which a clock in `zone` shows this time.
pub(super) fn instant_of(local: i64, zone: Zone) -> i64 {
    local.saturating_sub(i64::from(zone.offset_of_local(local.div_euclid(SECOND))) * SECOND)
}

/// Days, clocks, instants or spans of time as PostgreSQL spells them.
pub(crate) fn text_of(column: &ArrayRef, zone: Zone, style: Style) -> Result<ArrayRef> {
    let mut texts = StringBuilder::with_capacity(column.len(), column.len() * 22);
    let mut scratch = Vec::new();
    let mut append = |texts: &mut StringBuilder, write: &mut dyn FnMut(&mut Vec<u8>)| {
        scratch.clear();
        write(&mut scratch);
        let text = std::str::from_utf8(&scratch);
        text.map(|text| texts.append_value(text))
            .map_err(|_| Error::internal("a time was not spelled in letters"))
    };
    if matches!(column.data_type(), DataType::Date32 | DataType::Date64) {
        for days in cast(column, &DataType::Date32)?.as_primitive::<Date32Type>() {
            match days {
                Some(days) => append(&mut texts, &mut |out| write_date(i64::from(days), out))?,
                None => texts.append_null(),
            }
        }
        return Ok(Arc::new(texts.finish()));
    }
    if is_span(column.data_type()) {
        for span in Interval::of_column(column)? {
            match span {
                Some(span) => append(&mut texts, &mut |out| span.write_text(out))?,
                None => texts.append_null(),
            }
        }
        return Ok(Arc::new(texts.finish()));
    }
    let is_instant = is_instant(column.data_type());
    let micros = cast(column, &if is_instant { instants() } else { CLOCK })?;
    let offsets = Offsets::default();
    for micros in micros.as_primitive::<TimestampMicrosecondType>() {
        let Some(micros) = micros else {
            texts.append_null();
            continue;
        };
        let offset = is_instant.then(|| offsets.at(zone, micros.div_euclid(SECOND)));
        // The day and the time of day are added to each by itself: no sum is too large.
        let clock = micros.rem_euclid(DAY_MICROS) + i64::from(offset.unwrap_or(0)) * SECOND;
        let days = micros.div_euclid(DAY_MICROS) + clock.div_euclid(DAY_MICROS);
        let clock = clock.rem_euclid(DAY_MICROS);
        append(&mut texts, &mut |out| write_local(days, clock, offset, style, out))?;
    }
    Ok(Arc::new(texts.finish()))
}

/// `column` as `to`. Where one is an instant and the other what a clock shows, that is a clock in
/// `zone`; so are the elements of arrays.
///
/// # Errors
/// As the engine's cast.
pub(crate) fn converted(column: &ArrayRef, to: &DataType, zone: Zone) -> Result<ArrayRef> {
    let from = column.data_type();
    if has_own_text(from) && is_text(to) {
        return cast(&of_column(column, zone, Style::Postgres)?, to);
    }
    if is_length(from) && matches!(to, DataType::Interval(_)) {
        let nanos = |it: Interval| -> Result<_> {
            let Interval { months, days, micros } = it;
            let nanoseconds = micros.checked_mul(1000).ok_or_else(|| out_of_range("interval"))?;
            Ok(IntervalMonthDayNano { months, days, nanoseconds })
        };
        let spans = Interval::of_column(column)?.into_iter().map(|it| it.map(nanos).transpose());
        let spans = spans.collect::<Result<IntervalMonthDayNanoArray>>()?;
        return cast(&(Arc::new(spans) as ArrayRef), to);
    }
    if is_instant(from) && is_clock(to) {
        let at = cast(column, &instants())?;
        let clocks = wall_clock(at.as_primitive::<TimestampMicrosecondType>(), zone);
        return cast(&(Arc::new(clocks) as ArrayRef), to);
    }
    if is_clock(from) && is_instant(to) {
        let clocks = cast(column, &CLOCK)?;
        let at = instants_of(clocks.as_primitive::<TimestampMicrosecondType>(), zone);
        return cast(&(Arc::new(at) as ArrayRef), to);
    }
    match (element(from), element(to), mixes(from, to) || spells(from, to)) {
        (Some(of), Some(element), true) => {
            let lists = cast(column, &DataType::List(Arc::clone(of)))?;
            let lists = lists.as_list::<i32>();
            let offsets = lists.offsets();
            // Of a slice the values are more than those of its rows.
            let (first, length) = match (offsets.first(), offsets.last()) {
                (Some(first), Some(last)) => (first.as_usize(), last.as_usize() - first.as_usize()),
                _ => (0, 0),
            };
            let values = lists.values().slice(first, length);
            let values = converted(&values, element.data_type(), zone)?;
            let lengths = OffsetBuffer::from_lengths(offsets.lengths());
            let nulls = lists.nulls().cloned();
            let made = ListArray::try_new(Arc::clone(element), lengths, values, nulls);
            let made: ArrayRef = Arc::new(made.map_err(|error| from_arrow(&error))?);
            cast(&made, to)
        }
        _ => cast(column, to),
    }
}

/// Whether a value is what lies between two times: an interval of it has days.
pub(super) fn is_length(of: &DataType) -> bool {
    matches!(of, DataType::Duration(_))
}

/// Whether the zone has a part in a cast of arrays.
pub(super) fn mixes(from: &DataType, to: &DataType) -> bool {
    let (Some(from), Some(to)) = (element(from), element(to)) else { return false };
    let (from, to) = (from.data_type(), to.data_type());
    (is_instant(from) && is_clock(to)) || (is_clock(from) && is_instant(to)) || mixes(from, to)
}

/// Whether a cast of arrays makes texts of what PostgreSQL spells in its own way.
pub(super) fn spells(from: &DataType, to: &DataType) -> bool {
    let (Some(from), Some(to)) = (element(from), element(to)) else { return false };
    let (from, to) = (from.data_type(), to.data_type());
    (has_own_text(from) && is_text(to)) || spells(from, to)
}

/// The same array with texts for its times; `None` for one of other elements.
pub(super) fn texts(of: &DataType) -> Option<DataType> {
    let element = element(of)?.data_type();
    let element =
        if is_spelled(element) || element.is_floating() { DataType::Utf8 } else { texts(element)? };
    Some(DataType::List(Arc::new(Field::new_list_field(element, true))))
}

fn element(of: &DataType) -> Option<&arrow::datatypes::FieldRef> {
    match of {
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _) => Some(element),
        _ => None,
    }
}

fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, to, &options).map_err(|error| from_arrow(&error))
}
