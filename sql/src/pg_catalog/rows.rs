//! Rows of one system table while it is built.
//!
//! What it guarantees: a row names only columns that the table has; a column that it does not
//! name is NULL, or, where NULL is not allowed, zero, false or the empty text.

use std::sync::Arc;

use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use kho_catalog::error::{Error, Result};

use super::definition::Definition;
use super::value::{Value, array, default_value};

/// A system table being filled, column by column.
pub struct Rows {
    pub definition: &'static Definition,
    columns: Vec<Vec<Value>>,
    count: usize,
}

impl Rows {
    pub fn new(definition: &'static Definition) -> Rows {
        let columns = definition.columns.iter().map(|_| Vec::new()).collect();
        Rows { definition, columns, count: 0 }
    }

    /// Adds one row.
    ///
    /// # Errors
    /// `XX000` where the table has no such column.
    pub fn push<const N: usize>(&mut self, row: [(&str, Value); N]) -> Result<()> {
        let mut given: Vec<(&str, Option<Value>)> =
            row.into_iter().map(|(name, value)| (name, Some(value))).collect();
        for (column, values) in self.definition.columns.iter().zip(&mut self.columns) {
            let value = given
                .iter_mut()
                .find(|(name, value)| *name == column.name && value.is_some())
                .and_then(|(_, value)| value.take());
            values.push(match value {
                Some(Value::Null) | None if column.not_null => default_value(column.pg_type),
                Some(value) => value,
                None => Value::Null,
            });
        }
        self.count += 1;
        match given.iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => Err(Error::internal(format!(
                "system table {} has no column {name}",
                self.definition.name
            ))),
            None => Ok(()),
        }
    }

    /// The rows as one batch.
    pub fn into_batch(self) -> Result<RecordBatch> {
        let arrays = self
            .definition
            .columns
            .iter()
            .zip(&self.columns)
            .map(|(column, values)| {
                array(column.pg_type, values).map_err(|error| {
                    Error::internal(format!(
                        "system table {}, column {}",
                        self.definition.name, column.name
                    ))
                    .with_source(error)
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.count));
        RecordBatch::try_new_with_options(Arc::clone(&self.definition.arrow), arrays, &options)
            .map_err(|error| {
                Error::internal(format!("system table {} is malformed", self.definition.name))
                    .with_source(error)
            })
    }

    /// The rows as a table.
    pub fn into_table(self) -> Result<Arc<dyn TableProvider>> {
        let schema = Arc::clone(&self.definition.arrow);
        let batch = self.into_batch()?;
        let table = MemTable::try_new(schema, vec![vec![batch]])
            .map_err(|error| Error::internal("a system table is malformed").with_source(error))?;
        Ok(Arc::new(table))
    }
}
