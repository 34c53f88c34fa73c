//! Checked arithmetic, at its limits and within them.

use arrow::array::{ArrayRef, Int16Array, Int64Array};
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl};
use kho_catalog::error::Kind;

use super::*;
use crate::errors::from_engine;

fn compute(function: Checked, values: Vec<ArrayRef>) -> Result<ColumnarValue> {
    let types: Vec<DataType> = values.iter().map(|it| it.data_type().clone()).collect();
    let field = |of: &DataType| Arc::new(arrow::datatypes::Field::new("", of.clone(), true));
    let return_type = function.return_type(&types)?;
    function.invoke_with_args(ScalarFunctionArgs {
        number_rows: values[0].len(),
        arg_fields: types.iter().map(field).collect(),
        return_field: field(&return_type),
        args: values.into_iter().map(ColumnarValue::Array).collect(),
        config_options: Arc::new(ConfigOptions::default()),
    })
}

#[test]
fn arithmetic_raises_instead_of_wrapping() {
    let most: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
    let least: ArrayRef = Arc::new(Int16Array::from(vec![i16::MIN]));
    let two: ArrayRef = Arc::new(Int64Array::from(vec![2]));
    for (operator, right) in [(Operator::Plus, &two), (Operator::Multiply, &two)] {
        let error = compute(Checked::of(operator), vec![most.clone(), right.clone()]);
        let error = from_engine(error.unwrap_err());
        assert_eq!(error.kind(), Kind::NumericOutOfRange);
        assert_eq!(error.message(), "bigint out of range");
    }
    let error = from_engine(compute(Checked::negate(), vec![least]).unwrap_err());
    assert_eq!(error.message(), "smallint out of range");
}

#[test]
fn in_range_it_is_plain_arithmetic() {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
    let sum = compute(Checked::of(Operator::Plus), vec![values.clone(), values]).unwrap();
    let expected: ArrayRef = Arc::new(Int64Array::from(vec![Some(14), None]));
    assert_eq!(&sum.into_array(2).unwrap(), &expected);
}
