//! Whether rows are of the types that were told of them before they came.
//!
//! What it guarantees: where it says yes, a cast to what was told loses nothing of any value, or
//! fails.
//! What it does not: the names and the metadata of columns are not looked at.
//!
//! # Why
//! A cast to what was told would make a mistake in telling change values without a word.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use kho_catalog::error::{Error, Result};

/// That a batch is what `told` tells of it, or can be cast to it without loss.
///
/// # Errors
/// `XX000`, with the column that is not.
pub fn check(batch: &RecordBatch, told: &Schema) -> Result<()> {
    for (column, field) in batch.columns().iter().zip(told.fields()) {
        if !keeps(column.data_type(), field.data_type()) {
            return Err(Error::internal(format!(
                "column \"{}\" is of type {} and was told to be of type {}",
                field.name(),
                column.data_type(),
                field.data_type()
            )));
        }
    }
    Ok(())
}

/// Whether a cast keeps every value of `from`, or fails.
fn keeps(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Decimal128, Dictionary, FixedSizeBinary, FixedSizeList, Float32,
        Float64, LargeBinary, LargeList, LargeUtf8, List, ListView, Map, Null, RunEndEncoded,
        Struct, Timestamp, Utf8, Utf8View,
    };
    let is_text = |of: &DataType| matches!(of, Utf8 | LargeUtf8 | Utf8View);
    let is_bytes =
        |of: &DataType| matches!(of, Binary | LargeBinary | BinaryView | FixedSizeBinary(_));
    match (from, to) {
        (one, other) if one == other => true,
        (Null, _) | (Float32, Float64) => true,
        (Dictionary(_, values), to) => keeps(values, to),
        (RunEndEncoded(_, values), to) => keeps(values.data_type(), to),
        (one, other) if is_text(one) => is_text(other),
        (one, other) if is_bytes(one) => is_bytes(other),
        // A whole number that does not fit fails.
        (one, other) if one.is_integer() => other.is_integer() || other.is_decimal(),
        (Decimal128(_, scale), Decimal128(_, finer)) => scale <= finer,
        (Timestamp(unit, zone), Timestamp(finer, other)) => {
            unit <= finer && zone.is_some() == other.is_some()
        }
        (
            List(one) | LargeList(one) | ListView(one) | FixedSizeList(one, _),
            List(other) | LargeList(other) | ListView(other) | FixedSizeList(other, _),
        ) => keeps(one.data_type(), other.data_type()),
        (Map(one, _), Map(other, _)) => keeps(one.data_type(), other.data_type()),
        (Struct(ones), Struct(others)) => {
            ones.len() == others.len()
                && (ones.iter().zip(others))
                    .all(|(one, other)| keeps(one.data_type(), other.data_type()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
