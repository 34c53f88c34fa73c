//! Which types parameters keep.

use arrow::array::{
    Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};

use super::*;

const INT_ARRAY: fn() -> Type = || Type::Array(Box::new(Type::Integer));

fn of(columns: &[ArrayRef]) -> RecordBatch {
    let names = (1..).map(|number| format!("${number}"));
    RecordBatch::try_from_iter(names.zip(columns.iter().cloned())).unwrap()
}

fn fit(schema: &SchemaRef, described: &[(Type, bool)]) -> Fit {
    let description = Description {
        parameters: described.iter().map(|(of, _)| of.clone()).collect(),
        open: described.iter().map(|(_, is_open)| *is_open).collect(),
        ..Description::default()
    };
    fitted(schema, &description, Zone::Utc).unwrap()
}

/// The types that one column comes to where the statement has `to` for it, and its values.
fn become_of(column: ArrayRef, to: &Type, is_open: bool) -> (Type, Vec<ScalarValue>) {
    let batch = of(&[column]);
    let fit = fit(&batch.schema(), &[(to.clone(), is_open)]);
    let mut rows = Vec::new();
    for piece in fit.pieces(&batch) {
        let piece = piece.unwrap();
        for row in 0..piece.num_rows() {
            rows.push(vec![ScalarValue::try_from_array(piece.column(0), row).unwrap()]);
        }
    }
    fit.settle(&mut rows).unwrap();
    let types = fit.types();
    (types[0].clone().unwrap(), rows.into_iter().flatten().collect())
}

fn decimals(values: Vec<i128>, precision: u8, scale: i8) -> ArrayRef {
    let made = Decimal128Array::from(values).with_precision_and_scale(precision, scale);
    Arc::new(made.unwrap())
}

#[test]
fn what_loses_nothing_is_of_the_type_that_the_statement_has() {
    let whole: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), None]));
    let found = become_of(whole, &Type::Integer, false);
    let values = vec![ScalarValue::Int32(Some(5)), ScalarValue::Int32(None)];
    assert_eq!(found, (Type::Integer, values));
    let money = decimals(vec![15], 2, 1);
    let found = become_of(money, &Type::Numeric(10, 2), false);
    let value = ScalarValue::Decimal128(Some(150), 10, 2);
    assert_eq!(found, (Type::Numeric(10, 2), vec![value]));
    let keys = Int32Array::from(vec![0, 0]);
    let dictionary: DictionaryArray<Int32Type> =
        DictionaryArray::try_new(keys, Arc::new(Int64Array::from(vec![7]))).unwrap();
    let (found, values) = become_of(Arc::new(dictionary), &Type::Integer, false);
    assert_eq!((found, values[1].clone()), (Type::Integer, ScalarValue::Int32(Some(7))));
}

#[test]
fn what_would_be_another_number_keeps_its_type_in_all_rows() {
    let whole: ArrayRef = Arc::new(Int64Array::from(vec![5, 1 << 40]));
    let (found, values) = become_of(whole, &Type::Integer, false);
    assert_eq!(found, Type::BigInt);
    assert_eq!(values, [ScalarValue::Int64(Some(5)), ScalarValue::Int64(Some(1 << 40))]);
    let money = decimals(vec![1005], 4, 3);
    assert_eq!(become_of(money, &Type::Numeric(10, 2), false).0, Type::Numeric(4, 3));
    let money = decimals(vec![15], 2, 1);
    assert_eq!(become_of(money, &Type::Integer, false).0, Type::Numeric(2, 1));
    let whole: ArrayRef = Arc::new(Int64Array::from(vec![16_777_217]));
    assert_eq!(become_of(whole, &Type::Real, false).0, Type::Double);
    for to in [Type::Integer, Type::Real, Type::Numeric(10, 2)] {
        let float: ArrayRef = Arc::new(Float64Array::from(vec![1.5]));
        assert_eq!(become_of(float, &to, false).0, Type::Double, "{to}");
    }
}

/// What came in an earlier batch is of the types of all.
#[test]
fn all_batches_have_the_same_types() {
    let batches = [5_i64, 1 << 40].map(|number| of(&[Arc::new(Int64Array::from(vec![number]))]));
    let fit = fit(&batches[0].schema(), &[(Type::Integer, false)]);
    let first = fit.pieces(&batches[0]).next().unwrap().unwrap();
    let mut rows = vec![vec![ScalarValue::try_from_array(first.column(0), 0).unwrap()]];
    assert_eq!(rows, [[ScalarValue::Int32(Some(5))]]);
    fit.pieces(&batches[1]).for_each(|piece| drop(piece.unwrap()));
    fit.settle(&mut rows).unwrap();
    assert_eq!(rows, [[ScalarValue::Int64(Some(5))]]);
    assert_eq!(fit.types(), [Some(Type::BigInt)]);
}

#[test]
fn a_time_keeps_its_time_beside_a_day() {
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_577_854_800_000_000]));
    assert_eq!(become_of(Arc::clone(&at), &Type::Date, false).0, Type::Timestamp);
    let zoned: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("Asia/Ho_Chi_Minh"));
    assert_eq!(become_of(zoned, &Type::Date, false).0, Type::TimestampTz);
    assert_eq!(become_of(at, &Type::TimestampTz, false).0, Type::TimestampTz);
}

#[test]
fn what_is_open_is_of_the_type_that_is_sent() {
    let whole: ArrayRef = Arc::new(Int64Array::from(vec![5]));
    assert_eq!(become_of(whole, &Type::Text, true).0, Type::BigInt);
    let text: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["1.5"]));
    let (found, values) = become_of(text, &Type::Double, true);
    assert_eq!((found, values), (Type::Double, vec![ScalarValue::Float64(Some(1.5))]));
}

#[test]
fn the_elements_of_lists_keep_theirs() {
    let list = |numbers: Vec<i64>| -> ArrayRef {
        let numbers = numbers.into_iter().map(Some).collect::<Vec<_>>();
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(numbers)]))
    };
    assert_eq!(become_of(list(vec![1, 2]), &INT_ARRAY(), false).0, INT_ARRAY());
    let wide = Type::Array(Box::new(Type::BigInt));
    assert_eq!(become_of(list(vec![1, 1 << 40]), &INT_ARRAY(), false).0, wide);
}
