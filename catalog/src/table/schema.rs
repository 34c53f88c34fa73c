//! Columns of a Delta table: ours carry a stable id and a declared type in their metadata.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;

use crate::error::{Error, Kind, Result};
use crate::types::{COLUMN_ID_KEY, TYPE_KEY, Type};

/// A column as the Delta log states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// `None` for a column that another tool added.
    pub id: Option<u32>,
    pub name: String,
    pub data_type: Type,
    pub not_null: bool,
}

impl TableColumn {
    /// The field to be stored: nothing but our own keys in its metadata, above all no Parquet
    /// field id, which makes other readers match columns by id and find none.
    pub fn to_field(&self) -> Field {
        let field = self.data_type.to_field(&self.name, !self.not_null);
        let mut metadata = HashMap::new();
        if let Some(declared) = field.metadata().get(TYPE_KEY) {
            metadata.insert(TYPE_KEY.to_owned(), declared.clone());
        }
        if let Some(id) = self.id {
            metadata.insert(COLUMN_ID_KEY.to_owned(), id.to_string());
        }
        field.with_metadata(metadata)
    }
}

/// The Arrow schema of `columns`, as rows are to be written.
pub(super) fn arrow_schema(columns: &[TableColumn]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(TableColumn::to_field).collect::<Vec<_>>()))
}

/// The columns of a table's Arrow schema.
pub(super) fn columns(schema: &Schema) -> Result<Vec<TableColumn>> {
    schema.fields().iter().map(|field| column(field)).collect()
}

/// The Delta schema of `columns`.
pub(super) fn delta_schema(columns: &[TableColumn]) -> Result<StructType> {
    arrow_schema(columns).as_ref().try_into_kernel().map_err(|error| {
        Error::new(Kind::FeatureNotSupported, "a column's type cannot be stored in Delta")
            .with_source(error)
    })
}

fn column(field: &Field) -> Result<TableColumn> {
    let data_type = Type::from_field(field).ok_or_else(|| {
        Error::unsupported(format!(
            "column \"{}\" has the type {}, which has no name here",
            field.name(),
            field.data_type()
        ))
    })?;
    Ok(TableColumn {
        id: field.metadata().get(COLUMN_ID_KEY).and_then(|id| id.parse().ok()),
        name: field.name().clone(),
        data_type,
        not_null: !field.is_nullable(),
    })
}
