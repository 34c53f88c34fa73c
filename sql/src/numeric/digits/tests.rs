//! Quotients and products at the limits of their digits.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type, Field};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, lit};
use kho_catalog::error::Kind;

use super::*;
use crate::errors::from_engine;

const fn digits(all: i16, after: i16) -> Digits {
    Digits { all, after }
}

fn column(values: &[Option<i128>], all: u8, after: i8) -> ColumnarValue {
    let array = Decimal128Array::from(values.to_vec()).with_precision_and_scale(all, after);
    ColumnarValue::Array(Arc::new(array.unwrap()))
}

fn one(value: Option<i128>, all: u8, after: i8) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Decimal128(value, all, after))
}

fn compute(function: NumericFunction, args: Vec<ColumnarValue>) -> Result<Vec<Option<i128>>> {
    let rows = args.iter().find_map(|it| match it {
        ColumnarValue::Array(array) => Some(array.len()),
        ColumnarValue::Scalar(_) => None,
    });
    let rows = rows.unwrap_or(1);
    let field = |of: DataType| Arc::new(Field::new("", of, true));
    let result = function.invoke_with_args(ScalarFunctionArgs {
        number_rows: rows,
        arg_fields: args.iter().map(|it| field(it.data_type())).collect(),
        return_field: field(function.return_type(&[])?),
        args,
        config_options: Arc::new(ConfigOptions::default()),
    })?;
    let array: ArrayRef = result.into_array(rows)?;
    assert_eq!(array.data_type(), &function.return_type(&[])?);
    Ok(array.as_primitive::<Decimal128Type>().iter().collect())
}

fn to(all: u8, after: i8) -> NumericFunction {
    NumericFunction::quotient(DataType::Decimal128(all, after))
}

#[test]
fn quotients_are_rounded_half_away_from_zero() {
    let left = column(&[Some(2), Some(-2), Some(1), Some(-1), Some(0), None], 10, 0);
    let right = column(&[Some(30), Some(30), Some(20), Some(20), Some(-10), Some(0)], 10, 1);
    let found = compute(to(38, 2), vec![left, right]).unwrap();
    assert_eq!(found, [Some(67), Some(-67), Some(50), Some(-50), Some(0), None]);
    let halves = column(&[Some(1), Some(3), Some(-1), Some(-3)], 10, 0);
    let found = compute(to(38, 1), vec![halves, one(Some(20), 2, 0)]).unwrap();
    assert_eq!(found, [Some(1), Some(2), Some(-1), Some(-2)]);
    let by_negative = compute(to(38, 1), vec![one(Some(1), 1, 0), one(Some(-20), 2, 0)]).unwrap();
    assert_eq!(by_negative, [Some(-1)]);
}

#[test]
fn what_needs_more_than_128_bits_on_the_way_is_exact() {
    // 99999999999999999999.99 / 7, with sixteen digits.
    let large = 10_i128.pow(22) - 1;
    let found = compute(to(38, 16), vec![column(&[Some(large)], 38, 2), one(Some(7), 1, 0)]);
    assert_eq!(found.unwrap(), [Some(142_857_142_857_142_857_142_842_857_142_857_143)]);
    // Ten to the 37th divided by itself with 38 digits after the point of neither.
    let most = 10_i128.pow(37);
    let found = compute(to(38, 30), vec![one(Some(most), 38, 30), column(&[Some(most)], 38, 30)]);
    assert_eq!(found.unwrap(), [Some(10_i128.pow(30))]);
    // Two thirds, by numbers whose product has 256 bits.
    let thirds = compute(
        to(38, 37),
        vec![one(Some(2 * 10_i128.pow(37)), 38, 0), one(Some(3 * 10_i128.pow(37)), 38, 0)],
    );
    assert_eq!(thirds.unwrap(), [Some(6_666_666_666_666_666_666_666_666_666_666_666_667)]);
}

#[test]
fn a_null_divides_nothing_and_zero_and_overflow_are_errors() {
    let nothing = compute(to(38, 2), vec![column(&[Some(1), Some(2)], 4, 0), one(None, 4, 0)]);
    assert_eq!(nothing.unwrap(), [None, None]);
    let nothing = compute(to(38, 2), vec![one(None, 4, 0), column(&[Some(0), Some(2)], 4, 0)]);
    assert_eq!(nothing.unwrap(), [None, None]);
    let by_null = compute(to(38, 2), vec![column(&[None], 4, 0), column(&[Some(0)], 4, 0)]);
    assert_eq!(by_null.unwrap(), [None]);
    let by_zero = compute(to(38, 2), vec![column(&[Some(1)], 4, 0), one(Some(0), 4, 0)]);
    let by_zero = from_engine(by_zero.unwrap_err());
    assert_eq!(by_zero.kind(), Kind::DivisionByZero);
    let large = 10_i128.pow(37);
    for (function, by) in [(to(38, 2), one(Some(1), 1, 0)), (to(38, 16), one(Some(1), 38, 38))] {
        let over = compute(function, vec![column(&[Some(large)], 38, 0), by]);
        assert_eq!(from_engine(over.unwrap_err()).kind(), Kind::NumericOutOfRange);
    }
    let narrow = compute(to(3, 2), vec![one(Some(10), 2, 0), one(Some(1), 1, 0)]);
    assert_eq!(from_engine(narrow.unwrap_err()).kind(), Kind::NumericOutOfRange);
}

#[test]
fn products_with_too_many_digits_are_rounded() {
    let to = |after: i8| NumericFunction::product(DataType::Decimal128(38, after));
    let halves = column(&[Some(5 * 10_i128.pow(15)), Some(-15 * 10_i128.pow(15))], 31, 16);
    let found = compute(to(20), vec![halves.clone(), halves]).unwrap();
    assert_eq!(found, [Some(25 * 10_i128.pow(18)), Some(225 * 10_i128.pow(18))]);
    // 1.5 * 0.1, to no digit more than one: 0.15 is 0.2.
    let found = compute(to(1), vec![one(Some(15), 2, 1), one(Some(1), 1, 1)]).unwrap();
    assert_eq!(found, [Some(2)]);
    let large = one(Some(10_i128.pow(36)), 38, 16);
    let over = compute(to(20), vec![large.clone(), large]);
    assert_eq!(from_engine(over.unwrap_err()).kind(), Kind::NumericOutOfRange);
}

#[test]
fn a_quotient_has_sixteen_digits_where_there_is_room() {
    assert_eq!(quotient(digits(15, 2), digits(15, 2)), digits(31, 16));
    assert_eq!(quotient(digits(25, 2), digits(25, 2)), digits(38, 16));
    assert_eq!(quotient(digits(29, 0), digits(19, 0)), digits(38, 16));
    assert_eq!(quotient(digits(38, 10), digits(38, 10)), digits(38, 16));
    assert_eq!(quotient(digits(38, 0), digits(1, 0)), digits(38, 6));
    assert_eq!(quotient(digits(30, 0), digits(1, 0)), digits(38, 8));
    assert_eq!(quotient(digits(38, 30), digits(38, 38)), digits(38, 38));
    // Of quotients again.
    assert_eq!(quotient(digits(31, 16), digits(15, 2)), digits(33, 16));
}

#[test]
fn a_product_is_exact_unless_its_digits_leave_no_room() {
    assert_eq!(product(digits(15, 2), digits(15, 2)), None);
    assert_eq!(product(digits(38, 10), digits(38, 10)), None);
    assert_eq!(product(digits(31, 16), digits(15, 2)), None);
    assert_eq!(product(digits(19, 18), digits(19, 18)), None);
    assert_eq!(product(digits(31, 16), digits(31, 16)), Some(digits(38, 20)));
    assert_eq!(product(digits(38, 16), digits(38, 30)), Some(digits(38, 30)));
    assert_eq!(product(digits(38, 38), digits(38, 38)), Some(digits(38, 38)));
    assert_eq!(product(digits(20, 14), digits(20, 14)), Some(digits(38, 26)));
}

#[test]
fn constants_have_the_digits_that_postgresql_gives() {
    let number = |unscaled, after| lit(ScalarValue::Decimal128(Some(unscaled), 38, after));
    let after = |left: Expr, right: Expr| constant::quotient(&left, &right).unwrap().after;
    assert_eq!(after(lit(1), number(30, 1)), 20);
    assert_eq!(after(number(1000, 2), lit(4)), 16);
    assert_eq!(after(number(12_345_670, 1), lit(7)), 12);
    assert_eq!(after(number(5, 2), lit(1)), 20);
    assert_eq!(after(number(0, 2), lit(3)), 20);
    assert_eq!(after(number(1, 0), number(10_i128.pow(37), 0)), 37);
    let of_column = datafusion::logical_expr::col("a");
    assert_eq!(constant::quotient(&of_column, &lit(4)), None);
}
