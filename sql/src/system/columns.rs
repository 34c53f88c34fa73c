//! A system relation, put together column by column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use kho_catalog::error::Result;

use super::{times, utc};
use crate::errors::{from_arrow, from_engine};

/// The columns so far, each of as many rows.
pub(super) struct Columns {
    rows: usize,
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    pub(super) fn new(rows: usize) -> Columns {
        Columns { rows, fields: Vec::new(), arrays: Vec::new() }
    }

    pub(super) fn text(self, name: &str, of: impl Iterator<Item = Option<String>>) -> Columns {
        self.with(Field::new(name, DataType::Utf8, true), Arc::new(of.collect::<StringArray>()))
    }

    pub(super) fn number(self, name: &str, of: impl Iterator<Item = Option<i64>>) -> Columns {
        self.with(Field::new(name, DataType::Int64, true), Arc::new(of.collect::<Int64Array>()))
    }

    pub(super) fn boolean(self, name: &str, of: impl Iterator<Item = Option<bool>>) -> Columns {
        let values = Arc::new(of.collect::<BooleanArray>());
        self.with(Field::new(name, DataType::Boolean, true), values)
    }

    /// Points in time, in milliseconds since the epoch.
    pub(super) fn time(self, name: &str, of: impl Iterator<Item = Option<i64>>) -> Columns {
        self.with(utc(name), times(of))
    }

    pub(super) fn table(self) -> Result<Arc<dyn TableProvider>> {
        let schema = Arc::new(Schema::new(self.fields));
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), self.arrays, &options)
            .map_err(|error| from_arrow(&error))?;
        let table = MemTable::try_new(schema, vec![vec![batch]]).map_err(from_engine)?;
        Ok(Arc::new(table))
    }

    fn with(mut self, field: Field, array: ArrayRef) -> Columns {
        self.fields.push(field);
        self.arrays.push(array);
        self
    }
}
