//! Of days and times, the days that are left are the same.

use arrow::datatypes::TimeUnit;
use datafusion::logical_expr::{cast, col, lit};

use super::*;

fn told(op: Operator, us: i64) -> Option<String> {
    let day = cast(col("d"), DataType::Timestamp(TimeUnit::Microsecond, None));
    let time = lit(ScalarValue::TimestampMicrosecond(Some(us), None));
    let comparison = BinaryExpr { left: Box::new(day), op, right: Box::new(time) };
    of_days(&comparison, |_| true).map(|it| it.to_string())
}

#[test]
fn a_midnight_is_its_day_and_any_other_time_is_within_it() {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let said = |op, us| told(op, us).unwrap();
    assert_eq!(said(Lt, DAY_US), "d < Date32(\"1970-01-02\")");
    assert_eq!(said(GtEq, -DAY_US), "d >= Date32(\"1969-12-31\")");
    assert_eq!(said(Eq, 0), "d = Date32(\"1970-01-01\")");
    for op in [Lt, LtEq] {
        assert_eq!(said(op, 1), "d <= Date32(\"1970-01-01\")");
        assert_eq!(said(op, -1), "d <= Date32(\"1969-12-31\")");
    }
    for op in [Gt, GtEq] {
        assert_eq!(said(op, 1), "d > Date32(\"1970-01-01\")");
    }
    assert!(told(Eq, 1).is_none() && told(NotEq, 1).is_none());
}
