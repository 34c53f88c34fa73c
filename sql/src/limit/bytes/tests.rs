//! The same values are as large in every form, and a part is as large as it is.

use std::sync::Arc;

use arrow::array::{Int64Array, ListArray, StringArray, StringViewArray};
use arrow::datatypes::Int64Type;

use super::*;

fn size(array: impl Array + 'static) -> u64 {
    of(&(Arc::new(array) as ArrayRef))
}

#[test]
fn a_text_counts_by_its_length_in_a_view_too() {
    let long = "x".repeat(1_000_000);
    let texts = vec![Some(long.as_str()), Some("short"), None];
    assert!(size(StringArray::from(texts.clone())) >= 1_000_005);
    assert_eq!(size(StringViewArray::from(texts.clone())), 1_000_005 + 3 * OFFSET_BYTES);
    assert_eq!(size(StringViewArray::from(texts).slice(1, 1)), 5 + OFFSET_BYTES);
}

#[test]
fn a_part_of_lists_counts_its_own_values() {
    let row = |count: usize| Some(vec![Some(7_i64); count]);
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([row(1), row(1000), row(2)]);
    let numbers = |count: usize| size(Int64Array::from(vec![7_i64; count]));
    let part = size(lists.slice(2, 1));
    assert!((16..200).contains(&part), "{part}");
    assert!(size(lists.slice(1, 1)) >= numbers(1000));
}
