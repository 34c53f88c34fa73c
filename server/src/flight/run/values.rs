//! The values of the catalog's rows, column by column.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

/// A column as text; of another type it has no values.
pub fn texts(batch: &RecordBatch, column: usize) -> impl Iterator<Item = Option<String>> {
    let texts = batch.columns().get(column).and_then(|it| cast(it, &DataType::Utf8).ok());
    let rows = batch.num_rows();
    (0..rows).map(move |row| {
        let texts = texts.as_ref()?.as_string_opt::<i32>()?;
        texts.is_valid(row).then(|| texts.value(row).to_owned())
    })
}

/// A column as whole numbers.
pub fn numbers(batch: &RecordBatch, column: usize) -> impl Iterator<Item = Option<i64>> {
    let numbers = batch.columns().get(column).and_then(|it| cast(it, &DataType::Int64).ok());
    (0..batch.num_rows()).map(move |row| {
        let numbers = numbers.as_ref()?.as_primitive_opt::<Int64Type>()?;
        numbers.is_valid(row).then(|| numbers.value(row))
    })
}

/// A column as booleans.
pub fn booleans(batch: &RecordBatch, column: usize) -> impl Iterator<Item = Option<bool>> {
    let booleans = batch.columns().get(column).cloned();
    (0..batch.num_rows()).map(move |row| {
        let booleans = booleans.as_ref()?.as_boolean_opt()?;
        booleans.is_valid(row).then(|| booleans.value(row))
    })
}
