//! How batches of a loader become those of a table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, DictionaryArray, Int32Array, LargeListArray,
    ListArray, NullArray, RunArray, StringArray, StringViewBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int32Type};
use kho_catalog::types::Type;

use super::*;

const LONG: &str = "a value that is longer than a view holds within itself";

fn batch(column: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter([("x", column)]).unwrap()
}

fn fit(to: &Type, from: &RecordBatch) -> Result<Fit> {
    let to = Arc::new(Schema::new(vec![to.to_field("x", true)]));
    Fit::new(Some("t"), &to, &from.schema(), Zone::Utc)
}

fn pieces(to: &Type, from: &RecordBatch) -> Vec<RecordBatch> {
    fit(to, from).unwrap().pieces(from).collect::<Result<_>>().unwrap()
}

#[test]
fn large_lists_keep_their_values() {
    let lists = LargeListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]);
    let from = batch(Arc::new(lists.clone()));
    let to = Type::Array(Box::new(Type::BigInt));
    let found = pieces(&to, &from);
    let found = found[0].column(0).as_list::<i32>();
    assert_eq!(found.value(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), 1);
    assert_eq!((found.value_length(0), found.is_null(1), found.value_length(2)), (2, true, 0));
    // What was cut from a longer one begins elsewhere.
    let cut = batch(Arc::new(lists.slice(1, 2)));
    assert_eq!(pieces(&to, &cut)[0].num_rows(), 2);
}

/// Each row of a value that is shared counts for the whole of it.
#[test]
fn shared_values_count_for_each_row() {
    let rows = 1000;
    let texts: ArrayRef = Arc::new(StringArray::from(vec![LONG; rows]));
    let keys = Int32Array::from(vec![0; rows]);
    let values: ArrayRef = Arc::new(StringArray::from(vec![LONG]));
    let dictionary: ArrayRef =
        Arc::new(DictionaryArray::try_new(keys, Arc::clone(&values)).unwrap());
    let mut view = StringViewBuilder::new().with_deduplicate_strings();
    (0..rows).for_each(|_| view.append_value(LONG));
    let views: ArrayRef = Arc::new(view.finish());
    let ends = Int32Array::from(vec![i32::try_from(rows).unwrap()]);
    let runs: ArrayRef =
        Arc::new(RunArray::<Int32Type>::try_new(&ends, values.as_string::<i32>()).unwrap());
    let expected = size::of_batch(&batch(texts));
    assert!(expected > (rows * LONG.len()) as u64);
    for shared in [dictionary, views, runs] {
        let of = shared.data_type().clone();
        assert_eq!(size::of_batch(&batch(Arc::clone(&shared))), expected, "{of}");
        let half = size::of_batch(&batch(shared.slice(10, rows / 2)));
        assert_eq!(half, expected / 2, "{of}");
    }
}

#[test]
fn pieces_are_bounded_and_whole() {
    let value = "x".repeat(1 << 20);
    let keys = Int32Array::from_iter_values((0..200).map(|row| row % 2));
    let values: ArrayRef = Arc::new(StringArray::from(vec![value.as_str(), "y"]));
    let from = batch(Arc::new(DictionaryArray::try_new(keys, values).unwrap()));
    let pieces = pieces(&Type::Text, &from);
    assert_eq!(pieces.iter().map(RecordBatch::num_rows).sum::<usize>(), 200);
    assert!(pieces.len() > 5, "{}", pieces.len());
    assert!(pieces.iter().all(|piece| size::of_batch(piece) <= PIECE_BYTES));
}

#[test]
fn a_type_that_cannot_be_assigned_is_named() {
    let from = batch(Arc::new(Int32Array::from(vec![1])));
    let error = fit(&Type::Date, &from).err().unwrap();
    assert_eq!(error.sqlstate(), "42804");
    let said = "column \"x\" of relation \"t\" is of type date, but what is sent is of type Int32";
    assert_eq!(error.message(), said);
    let field = Field::new("x", DataType::Utf8, true);
    assert!(fit(&Type::from_field(&field).unwrap(), &from).is_ok());
}

/// What lies beside a row's own elements is not converted.
#[test]
fn a_list_is_as_long_as_its_rows_say() {
    let field = Arc::new(Field::new_list_field(DataType::Null, true));
    let beside: ArrayRef = Arc::new(NullArray::new(1 << 46));
    let offsets = OffsetBuffer::new(vec![0, 0, 2].into());
    let lists = ListArray::try_new(field, offsets, beside, None).unwrap();
    let from = batch(Arc::new(lists));
    let found = pieces(&Type::Array(Box::new(Type::Integer)), &from);
    let found = found[0].column(0).as_list::<i32>();
    assert_eq!((found.value_length(0), found.value_length(1)), (0, 2));
    assert_eq!(found.values().len(), 2);
}

/// An array of a client's may hold what its type forbids.
#[test]
fn what_a_type_forbids_is_refused_though_it_has_that_type() {
    let digits = Decimal128Array::from(vec![5, (1 << 32) + 5]).with_precision_and_scale(9, 2);
    let refused = |to: &Type, column: ArrayRef| {
        let from = batch(column);
        let error = fit(to, &from).unwrap().pieces(&from).find_map(Result::err);
        error.map(|error| error.sqlstate())
    };
    let digits: ArrayRef = Arc::new(digits.unwrap());
    assert_eq!(refused(&Type::Numeric(9, 2), Arc::clone(&digits)), Some("22003"));
    assert_eq!(refused(&Type::Numeric(20, 2), digits), None);
    let text: ArrayRef = Arc::new(StringArray::from(vec!["A", "A\0x"]));
    assert_eq!(refused(&Type::Text, text), Some("22021"));
}
