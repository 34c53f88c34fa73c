//! What a cast may be used for, and what it may not.

use arrow::datatypes::{DataType, TimeUnit};

use super::keeps;

#[test]
fn what_loses_nothing_is_what_was_told() {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8View));
    assert!(keeps(&text, &DataType::Utf8));
    assert!(keeps(&DataType::Int32, &DataType::Int64));
    assert!(keeps(&DataType::Decimal128(5, 1), &DataType::Decimal128(10, 2)));
    let list = |of: DataType| DataType::new_list(of, true);
    assert!(keeps(&list(DataType::Utf8View), &list(DataType::Utf8)));
}

#[test]
fn what_may_lose_something_is_not() {
    assert!(!keeps(&DataType::Decimal128(5, 1), &DataType::Int32));
    assert!(!keeps(&DataType::Decimal128(5, 1), &DataType::Decimal128(5, 0)));
    assert!(!keeps(&DataType::Float64, &DataType::Int64));
    let of = |unit| DataType::Timestamp(unit, None);
    assert!(!keeps(&of(TimeUnit::Nanosecond), &of(TimeUnit::Microsecond)));
    assert!(!keeps(&of(TimeUnit::Microsecond), &DataType::Date32));
}
