//! Rows without what lies around and under their values.
//!
//! # Why
//! Arrow's arrays are often parts of larger ones: a piece of a text is a view into the whole of it, a row
//! that was filtered out may still lie in the buffer of the one that stayed, and a value that a mask made
//! NULL is still there, with a bit beside it that says so. Arrow's messages carry buffers as they are. What
//! a client must not see must not be in them.
//! What it guarantees: an array that is given back holds, in every buffer, what its values are made of, and
//! zeroes where there is NULL.
//! What it does not: values that are the same are not told from one another, as everywhere.

use std::sync::Arc;

use arrow::array::types::{BinaryViewType, ByteViewType, StringViewType};
use arrow::array::{Array, ArrayData, ArrayRef, AsArray as _, MutableArrayData, make_array};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// The same values, and nothing else.
///
/// # Errors
/// Where an array is not what its type says, which is a bug.
pub fn bare(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match is_bare(array) {
        true => Ok(Arc::clone(array)),
        false => Ok(make_array(gathered(cleared(array.to_data())?)?)),
    }
}

/// Whether nothing can lie in it that is none of its values: there is no NULL, and the values lie one
/// behind the other, of which a message takes those of the array alone.
fn is_bare(array: &ArrayRef) -> bool {
    use DataType as D;
    let lies_dense = match array.data_type() {
        D::Utf8 | D::LargeUtf8 | D::Binary | D::LargeBinary | D::FixedSizeBinary(_) => true,
        // Of booleans a message takes whole bytes.
        data_type => data_type.is_primitive(),
    };
    lies_dense && array.null_count() == 0
}

/// Without what lies under NULL, and outside of what lists say is theirs.
fn cleared(data: ArrayData) -> Result<ArrayData, ArrowError> {
    let data = with_children(data, cleared)?;
    // Its own buffers, with what is NULL left out.
    let mut made = MutableArrayData::new(vec![&data], true, data.len());
    let mut at = 0;
    let valid = match data.nulls() {
        Some(nulls) => nulls.valid_slices().collect(),
        None => vec![(0, data.len())],
    };
    for (start, end) in valid {
        made.try_extend_nulls(start - at)?;
        made.try_extend(0, start, end)?;
        at = end;
    }
    made.try_extend_nulls(data.len() - at)?;
    Ok(made.freeze())
}

/// With views into buffers that hold what they are views of, and no more.
fn gathered(data: ArrayData) -> Result<ArrayData, ArrowError> {
    match data.data_type() {
        DataType::Utf8View => Ok(viewed::<StringViewType>(data)),
        DataType::BinaryView => Ok(viewed::<BinaryViewType>(data)),
        _ => with_children(data, gathered),
    }
}

fn viewed<T: ByteViewType>(data: ArrayData) -> ArrayData {
    make_array(data).as_byte_view::<T>().gc().into_data()
}

fn with_children(
    data: ArrayData,
    made: fn(ArrayData) -> Result<ArrayData, ArrowError>,
) -> Result<ArrayData, ArrowError> {
    if data.child_data().is_empty() {
        return Ok(data);
    }
    let children = data.child_data().iter().cloned().map(made).collect::<Result<_, _>>()?;
    data.into_builder().child_data(children).build()
}

#[cfg(test)]
mod tests;
