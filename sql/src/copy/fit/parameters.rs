//! Rows of parameters as a client of Arrow sends them, made those of a statement.
//!
//! What it guarantees: no number and no time is rounded or cut to be of the type that a statement has for
//! it: it keeps the type that it was sent with, as one does whose type a client states on the other
//! wire. What is the same in the statement's type is of that type, so that one plan does for all rows. All
//! rows of a stream have the same types.
//! What it does not: text has no type of its own; it is read as what the statement takes.
//! On failure: as for a `COPY`.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;

use super::Fit;
use super::assign::assigned;
use crate::errors::{from_arrow, from_engine};
use crate::input::zone::Zone;
use crate::outcome::Description;
use crate::session::Session;
use crate::write::conform::cast;

/// The type that a column of parameters keeps where not all of its values are ones of the statement's.
#[derive(Debug)]
pub(super) struct Wider {
    field: FieldRef,
    is_needed: AtomicBool,
}

impl Session {
    /// How rows with these columns become those of the parameters that a statement was described with.
    ///
    /// # Errors
    /// `08P01` for more or fewer than there are, `42804` as for a `COPY`.
    pub fn fit_parameters(&self, from: &Schema, described: &Description) -> Result<Fit> {
        let zone = Zone::of_setting(self.setting("TimeZone")?)?;
        fitted(from, described, zone)
    }
}

impl Fit {
    /// Of the parameters of a statement, the types that the rows that were made so far need.
    pub fn types(&self) -> Vec<Option<Type>> {
        let fields = self.to.fields().iter().enumerate();
        fields.map(|(place, to)| Type::from_field(self.needed(place).unwrap_or(to))).collect()
    }

    /// Gives the rows of the first pieces the types that later ones turned out to need.
    ///
    /// # Errors
    /// `XX000`: what is the same in two types can be had in both.
    pub fn settle(&self, rows: &mut [Vec<ScalarValue>]) -> Result<()> {
        for place in 0..self.to.fields().len() {
            let Some(field) = self.needed(place) else { continue };
            for value in rows.iter_mut().filter_map(|row| row.get_mut(place)) {
                if value.data_type() != *field.data_type() {
                    *value = value.cast_to(field.data_type()).map_err(from_engine)?;
                }
            }
        }
        Ok(())
    }

    fn needed(&self, place: usize) -> Option<&FieldRef> {
        let wider = self.wider.get(place)?.as_ref()?;
        wider.is_needed.load(Ordering::Relaxed).then_some(&wider.field)
    }
}

impl Wider {
    /// The values as ones of `to`, or all of them as what they were sent as.
    pub(super) fn assigned(
        &self,
        column: &ArrayRef,
        to: &FieldRef,
        zone: Zone,
    ) -> Result<(FieldRef, ArrayRef)> {
        if !self.is_needed.load(Ordering::Relaxed) {
            let column = plain(column)?;
            match assigned(&column, to, zone) {
                Ok(made) if is_same(&column, &made)? => return Ok((Arc::clone(to), made)),
                Err(error) if error.kind() != Kind::NumericOutOfRange => return Err(error),
                _ => self.is_needed.store(true, Ordering::Relaxed),
            }
        }
        Ok((Arc::clone(&self.field), assigned(column, &self.field, zone)?))
    }
}

fn fitted(from: &Schema, described: &Description, zone: Zone) -> Result<Fit> {
    let (given, wanted) = (from.fields().len(), described.parameters.len());
    if given != wanted {
        let message =
            format!("{given} parameters are given, but the prepared statement requires {wanted}");
        return Err(Error::new(Kind::ProtocolViolation, message));
    }
    let columns = from.fields().iter().zip(described.parameters.iter().zip(&described.open));
    let columns = columns.map(|(sent, (of, is_open))| kept(sent.data_type(), of, *is_open));
    let (mut to, mut wider) = (Vec::new(), Vec::new());
    for (index, (of, sent)) in columns.enumerate() {
        let name = format!("${}", index + 1);
        to.push(of.to_field(&name, true));
        wider.push(sent.map(|sent| Wider {
            field: Arc::new(sent.to_field(&name, true)),
            is_needed: AtomicBool::new(false),
        }));
    }
    let fit = Fit::new(None, &Arc::new(Schema::new(to)), from, zone)?;
    Ok(Fit { wider, ..fit })
}

/// The type that values sent as `sent` become where the statement has `of` for them, and the one that
/// they keep where that would make others of them.
fn kept(sent: &DataType, of: &Type, is_open: bool) -> (Type, Option<Type>) {
    let Some(own) = own_type(sent) else { return (of.clone(), None) };
    if is_open {
        return (own, None);
    }
    match (&own, of) {
        _ if own == *of => (own, None),
        (Type::Array(_), Type::Array(element)) => {
            let sent = match sent {
                DataType::List(sent)
                | DataType::LargeList(sent)
                | DataType::FixedSizeList(sent, _) => sent.data_type(),
                _ => return (of.clone(), None),
            };
            let (element, wider) = kept(sent, element, false);
            let list = |of: Type| Type::Array(Box::new(of));
            (list(element), wider.map(list))
        }
        // As PostgreSQL does, beside a floating number a whole one is a double.
        _ if is_whole(&own) && is_floating(of) => (of.clone(), Some(Type::Double)),
        _ if is_whole(&own) && (is_whole(of) || is_numeric(of)) => (of.clone(), Some(own)),
        (Type::Numeric(..), Type::Numeric(..)) => (of.clone(), Some(own)),
        (Type::Real, Type::Double) => (of.clone(), None),
        _ if is_number(&own) && is_number(of) => (own, None),
        // A day has no time to be kept.
        (Type::Timestamp | Type::TimestampTz, Type::Date) => (own, None),
        _ => (of.clone(), None),
    }
}

/// The type that a client states by what it sends; text and NULLs state none.
fn own_type(sent: &DataType) -> Option<Type> {
    match sent {
        DataType::Dictionary(_, values) => own_type(values),
        DataType::RunEndEncoded(_, values) => own_type(values.data_type()),
        DataType::Decimal256(_, scale) => Some(Type::Numeric(38, u8::try_from(*scale).ok()?)),
        DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _) => {
            own_type(of.data_type()).map(|of| Type::Array(Box::new(of)))
        }
        other => Type::from_arrow(other).filter(|of| *of != Type::Text),
    }
}

fn is_whole(of: &Type) -> bool {
    matches!(of, Type::SmallInt | Type::Integer | Type::BigInt)
}

fn is_floating(of: &Type) -> bool {
    matches!(of, Type::Real | Type::Double)
}

fn is_numeric(of: &Type) -> bool {
    matches!(of, Type::Numeric(..))
}

fn is_number(of: &Type) -> bool {
    is_whole(of) || is_floating(of) || is_numeric(of)
}

/// The values of a column that has each of them once.
fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Dictionary(_, values) => plain(&cast(column, values)?),
        DataType::RunEndEncoded(_, values) => plain(&cast(column, values.data_type())?),
        _ => Ok(Arc::clone(column)),
    }
}

/// Whether the numbers that were made are those that were sent.
fn is_same(sent: &ArrayRef, made: &ArrayRef) -> Result<bool> {
    if let DataType::List(element) = made.data_type() {
        let sent = cast(sent, &DataType::List(Arc::clone(&listed(sent.data_type(), element))))?;
        let sent = sent.as_list::<i32>();
        let (Some(first), Some(last)) = (sent.offsets().first(), sent.offsets().last()) else {
            return Ok(true);
        };
        let (first, last) = (usize::try_from(*first), usize::try_from(*last));
        let (Ok(first), Ok(last)) = (first, last) else { return Ok(false) };
        let values = sent.values().slice(first, last.saturating_sub(first));
        return is_same(&plain(&values)?, made.as_list::<i32>().values());
    }
    if !sent.data_type().is_numeric() || !made.data_type().is_numeric() {
        return Ok(true);
    }
    let Ok(again) = cast(made, sent.data_type()) else { return Ok(false) };
    let same = not_distinct(&again, sent).map_err(|error| from_arrow(&error))?;
    Ok(same.false_count() == 0)
}

/// The field of what a list has.
fn listed(of: &DataType, otherwise: &FieldRef) -> FieldRef {
    match of {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            Arc::clone(field)
        }
        _ => Arc::clone(otherwise),
    }
}
