//! How much memory a column takes once each row has values of its own.
//!
//! # Why
//! In a dictionary, in run ends and in views many rows share one value, so that a small message can
//! stand for more bytes than any machine has.

use arrow::array::{
    Array, ArrayRef, AsArray, GenericByteArray, GenericListArray, OffsetSizeTrait, RecordBatch,
    downcast_run_array,
};
use arrow::datatypes::{ArrowNativeType, ByteArrayType, DataType};

/// What a value of no size of its own counts for.
const SMALL: u64 = 8;

/// Of all columns; nothing is looked at but lengths.
pub(super) fn of_batch(batch: &RecordBatch) -> u64 {
    batch.columns().iter().fold(0, |sum, column| sum.saturating_add(of(column)))
}

fn of(column: &ArrayRef) -> u64 {
    let rows = column.len() as u64;
    match column.data_type() {
        DataType::Utf8 => of_bytes(column.as_string::<i32>()),
        DataType::LargeUtf8 => of_bytes(column.as_string::<i64>()),
        DataType::Binary => of_bytes(column.as_binary::<i32>()),
        DataType::LargeBinary => of_bytes(column.as_binary::<i64>()),
        DataType::Utf8View => of_views(column.as_string_view().views()),
        DataType::BinaryView => of_views(column.as_binary_view().views()),
        DataType::Dictionary(_, _) => of_dictionary(column),
        DataType::RunEndEncoded(_, _) => of_runs(column),
        DataType::List(_) => of_lists(column.as_list::<i32>()),
        DataType::LargeList(_) => of_lists(column.as_list::<i64>()),
        DataType::FixedSizeList(_, _) => {
            of(column.as_fixed_size_list().values()).saturating_add(rows)
        }
        DataType::Struct(_) => (column.as_struct().columns().iter())
            .fold(rows, |sum, column| sum.saturating_add(of(column))),
        other => rows.saturating_mul(width(other)),
    }
}

fn width(of: &DataType) -> u64 {
    let width = match of {
        DataType::FixedSizeBinary(bytes) => u64::from(bytes.unsigned_abs()),
        other => other.primitive_width().map_or(SMALL, |width| width as u64),
    };
    width.max(SMALL)
}

fn of_bytes<T: ByteArrayType>(column: &GenericByteArray<T>) -> u64 {
    let offsets = column.value_offsets();
    let bytes = match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => last.as_usize().saturating_sub(first.as_usize()),
        _ => 0,
    };
    (bytes as u64).saturating_add((column.len() as u64).saturating_mul(SMALL))
}

fn of_views(views: &[u128]) -> u64 {
    views.iter().fold(0, |sum, view| sum.saturating_add(length_of(*view) + SMALL))
}

/// The lowest four bytes of a view are its length.
fn length_of(view: u128) -> u64 {
    u64::from(u32::try_from(view & u128::from(u32::MAX)).unwrap_or(u32::MAX))
}

fn of_lists<O: OffsetSizeTrait>(lists: &GenericListArray<O>) -> u64 {
    let offsets = lists.value_offsets();
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return 0 };
    let (first, last) = (first.as_usize(), last.as_usize());
    let values = lists.values().slice(first, last.saturating_sub(first));
    of(&values).saturating_add((lists.len() as u64).saturating_mul(SMALL))
}

fn of_dictionary(column: &ArrayRef) -> u64 {
    let dictionary = column.as_any_dictionary();
    if dictionary.values().is_empty() {
        return (column.len() as u64).saturating_mul(SMALL);
    }
    let keys = dictionary.normalized_keys();
    of_places(dictionary.values(), keys.into_iter())
}

fn of_runs(column: &ArrayRef) -> u64 {
    downcast_run_array! {
        column => {
            let places = (0..column.len()).map(|row| column.get_physical_index(row));
            of_places(column.values(), places)
        },
        // There is no other kind of run end.
        _ => u64::MAX,
    }
}

/// Of the values at these places, one after the other.
fn of_places(values: &ArrayRef, places: impl Iterator<Item = usize>) -> u64 {
    let sum = |length: &dyn Fn(usize) -> u64| {
        places.fold(0u64, |sum, place| sum.saturating_add(length(place).saturating_add(SMALL)))
    };
    match values.data_type() {
        DataType::Utf8 => {
            sum(&|at| values.as_string::<i32>().value_length(at).unsigned_abs().into())
        }
        DataType::Binary => {
            sum(&|at| values.as_binary::<i32>().value_length(at).unsigned_abs().into())
        }
        DataType::LargeUtf8 => sum(&|at| values.as_string::<i64>().value_length(at).unsigned_abs()),
        DataType::LargeBinary => {
            sum(&|at| values.as_binary::<i64>().value_length(at).unsigned_abs())
        }
        other if other.primitive_width().is_some() => sum(&|_| width(other)),
        _ => sum(&|at| of(&values.slice(at, 1))),
    }
}
