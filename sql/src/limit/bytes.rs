//! How large the values of a batch are, by what bounds and records count them.
//!
//! What it guarantees: the same values count the same however they lie in memory: of what a slice
//! shares with others only its own part counts, and a text of a view as much as any other.
//! What it does not: it is not what a wire makes of them.

use arrow::array::{Array, ArrayRef, AsArray, GenericListArray, OffsetSizeTrait};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;

/// Of a text or bytes in a view: what its place takes elsewhere.
const OFFSET_BYTES: u64 = 4;

/// The size of the values of a batch, in bytes.
pub(crate) fn value_bytes(batch: &RecordBatch) -> u64 {
    batch.columns().iter().map(of).sum()
}

fn of(array: &ArrayRef) -> u64 {
    match array.data_type() {
        DataType::Utf8View => of_views(array.as_string_view().views()),
        DataType::BinaryView => of_views(array.as_binary_view().views()),
        DataType::List(_) => of_list(array.as_list::<i32>()),
        DataType::LargeList(_) => of_list(array.as_list::<i64>()),
        DataType::Map(..) => {
            let map = array.as_map();
            let (first, last) = ends(map.offsets());
            let entries: ArrayRef = std::sync::Arc::new(map.entries().slice(first, last - first));
            of_offsets(map.len()) + of(&entries)
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(of).sum(),
        _ => {
            let data = array.to_data();
            let bytes = data.get_slice_memory_size();
            bytes.unwrap_or_else(|_| array.get_array_memory_size()) as u64
        }
    }
}

/// The length is the lower half of a view's first eight bytes.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
fn of_views(views: &[u128]) -> u64 {
    views.iter().map(|view| OFFSET_BYTES + u64::from(*view as u32)).sum()
}

fn of_list<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> u64 {
    let (first, last) = ends(list.offsets());
    of_offsets(list.len()) + of(&list.values().slice(first, last - first))
}

fn of_offsets(count: usize) -> u64 {
    OFFSET_BYTES * count as u64
}

/// Where the values of a list's rows begin and end.
fn ends<O: OffsetSizeTrait>(offsets: &[O]) -> (usize, usize) {
    let at = |offset: Option<&O>| offset.map_or(0, |it| it.as_usize());
    (at(offsets.first()), at(offsets.last()))
}

#[cfg(test)]
mod tests;
