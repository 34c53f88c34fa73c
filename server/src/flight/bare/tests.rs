//! What is left in the buffers of arrays that were made of larger ones.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryViewArray, BooleanArray, ByteView, Decimal128Array,
    FixedSizeBinaryArray, FixedSizeListArray, Int64Array, ListArray, NullArray, StringArray,
    StringViewArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, TimeUnit};

use super::bare;

/// What must be in no buffer.
const HIDDEN: &str = "what nobody may see";
const NUMBER: i64 = 0x5ec2_e75e_c2e7_5ec2;

fn bytes(data: &ArrayData) -> Vec<u8> {
    let own = data.buffers().iter().flat_map(|buffer| buffer.as_slice().to_vec());
    own.chain(data.child_data().iter().flat_map(bytes)).collect()
}

/// The same values, and nothing of what is hidden.
fn check(array: &dyn Array) {
    let array: ArrayRef = arrow::array::make_array(array.to_data());
    let found = bare(&array).unwrap();
    assert_eq!(found.as_ref(), array.as_ref());
    found.to_data().validate_full().unwrap();
    let bytes = bytes(&found.to_data());
    for marker in [HIDDEN.as_bytes(), &HIDDEN.as_bytes()[4..], &NUMBER.to_le_bytes()] {
        let is_there = bytes.windows(marker.len()).any(|it| it == marker);
        assert!(!is_there, "{} holds it", array.data_type());
    }
}

/// Every second one is NULL.
fn nulls(len: usize) -> NullBuffer {
    NullBuffer::new(BooleanBuffer::collect_bool(len, |at| at.is_multiple_of(2)))
}

fn numbers(len: usize) -> Int64Array {
    let value = |at: usize| if at.is_multiple_of(2) { 7 } else { NUMBER };
    Int64Array::new((0..len).map(value).collect(), None)
}

fn texts(len: usize) -> Vec<String> {
    (0..len)
        .map(|at| if at.is_multiple_of(2) { format!("seen {at}") } else { HIDDEN.repeat(3) })
        .collect()
}

/// `array` with every second value made NULL, and what it was left beneath.
fn covered(array: &dyn Array) -> ArrayRef {
    let data = array.to_data().into_builder().nulls(Some(nulls(array.len())));
    arrow::array::make_array(data.build().unwrap())
}

#[test]
fn what_lies_under_null_is_gone() {
    let len = 9;
    let numbers = numbers(len);
    check(&covered(&numbers));
    for data_type in [DataType::Float64, DataType::Timestamp(TimeUnit::Microsecond, None)] {
        let same_bits = numbers.to_data().into_builder().data_type(data_type).build().unwrap();
        check(&covered(&arrow::array::make_array(same_bits)));
    }
    let decimals = numbers.values().iter().map(|it| i128::from(*it));
    check(&covered(&Decimal128Array::from_iter_values(decimals)));
    check(&covered(&StringArray::from(texts(len))));
    check(&covered(&StringViewArray::from_iter_values(texts(len))));
    check(&covered(&BinaryViewArray::from_iter_values(texts(len))));
    let values = texts(len).into_iter().map(|it| it.as_bytes()[..4].to_vec());
    let binary = FixedSizeBinaryArray::try_from_iter(values).unwrap();
    let found = bare(&covered(&binary)).unwrap();
    assert!(!bytes(&found.to_data()).windows(4).any(|it| it == &HIDDEN.as_bytes()[..4]));
    let all_true = covered(&BooleanArray::from(vec![true; len]));
    let found = bare(&all_true).unwrap();
    assert_eq!(found.as_boolean().values().count_set_bits(), len.div_ceil(2));
    check(&NullArray::new(len));
    check(&covered(&numbers.slice(2, 6)));
}

#[test]
fn what_lies_around_a_view_is_gone() {
    let whole =
        StringViewArray::from_iter_values(["seen: something long enough", &HIDDEN.repeat(3)]);
    check(&whole.slice(0, 1));
    // A view of the beginning of a text that goes on.
    let whole = StringViewArray::from_iter_values([format!("a longer beginning, {HIDDEN}")]);
    let (views, buffers, _) = whole.into_parts();
    let mut view = ByteView::from(views[0]);
    view.length = 18;
    check(&StringViewArray::try_new(vec![view.as_u128()].into(), buffers, None).unwrap());
}

#[test]
fn what_lies_in_what_is_nested_is_gone() {
    let len = 8;
    let fields = |data_type: DataType| Arc::new(Field::new("a", data_type, true));
    let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(texts(len)));
    let numbers: ArrayRef = Arc::new(numbers(len));
    for values in [texts, numbers] {
        let field = fields(values.data_type().clone());
        let columns = vec![Arc::clone(&values)];
        let parts = StructArray::new(vec![Arc::clone(&field)].into(), columns, Some(nulls(len)));
        check(&parts);
        let inner = StructArray::new(vec![Arc::clone(&field)].into(), vec![covered(&values)], None);
        check(&inner);
        let offsets = OffsetBuffer::from_lengths(vec![1; len]);
        let lists =
            ListArray::new(Arc::clone(&field), offsets, Arc::clone(&values), Some(nulls(len)));
        check(&lists);
        // The list begins behind the first value, and ends before the last one.
        let offsets = OffsetBuffer::new(vec![2, 3, 3].into());
        check(&ListArray::new(Arc::clone(&field), offsets, Arc::clone(&values), None));
        let sized =
            FixedSizeListArray::new(Arc::clone(&field), 1, Arc::clone(&values), Some(nulls(len)));
        check(&sized);
        check(&StructArray::new(
            vec![fields(lists.data_type().clone())].into(),
            vec![Arc::new(lists)],
            Some(nulls(len)),
        ));
    }
}

#[test]
fn what_holds_nothing_else_is_not_copied() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    assert!(Arc::ptr_eq(&bare(&numbers).unwrap(), &numbers));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    assert!(Arc::ptr_eq(&bare(&texts).unwrap(), &texts));
}
