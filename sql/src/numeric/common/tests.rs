//! Types that PostgreSQL brings others to.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

use super::{INTERVAL, chosen, compared};

#[test]
fn of_numbers_the_widest_kind_is_chosen() {
    use DataType::{Decimal128, Float32, Float64, Int32, Int64, Null, UInt64};
    assert_eq!(chosen(&[Int32, Int64]), Some(Int64));
    assert_eq!(chosen(&[Int32, Null, Decimal128(2, 1)]), Some(Decimal128(11, 1)));
    assert_eq!(chosen(&[Decimal128(2, 1), Float32]), Some(Float32));
    assert_eq!(chosen(&[Decimal128(2, 1), Float32, Float64]), Some(Float64));
    assert_eq!(chosen(&[UInt64, Int32]), Some(Int64));
    assert_eq!(chosen(&[Int32, Null, Int32]), None);
}

#[test]
fn what_is_compared_with_a_float_is_a_double() {
    use DataType::{Decimal128, Float32, Float64, Int32, Utf8};
    assert_eq!(compared(&[Float32, Int32]), Some(Float64));
    assert_eq!(compared(&[Float64, Decimal128(38, 10)]), Some(Float64));
    assert_eq!(compared(&[Float32, Float32]), None);
    assert_eq!(compared(&[Int32, Decimal128(2, 1)]), None);
    assert_eq!(compared(&[Float64, Utf8]), None);
}

#[test]
fn times_count_microseconds() {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    assert_eq!(chosen(&[DataType::Date32, timestamp.clone()]), Some(timestamp));
    let spans = [DataType::Duration(TimeUnit::Microsecond), INTERVAL];
    assert_eq!(chosen(&spans), Some(DataType::Interval(IntervalUnit::MonthDayNano)));
}
