//! Primary keys, and the columns of foreign ones, of which Kho has none.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::CommandGetPrimaryKeys;
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Result};
use kho_sql::session::{DATABASE, Session};
use tokio_util::sync::CancellationToken;

use crate::flight::run;
use crate::flight::run::values::{numbers, texts};

const PRIMARY: &str = "SELECT k.table_schema, k.table_name, k.column_name, k.constraint_name, \
     k.ordinal_position FROM information_schema.key_column_usage k \
     JOIN information_schema.table_constraints t ON t.constraint_schema = k.constraint_schema \
     AND t.constraint_name = k.constraint_name AND t.table_name = k.table_name \
     WHERE t.constraint_type = 'PRIMARY KEY' AND k.table_name = $1 \
     AND ($2::text IS NULL OR k.table_schema = $2) ORDER BY 1, 2, 4, 5";

pub(super) fn primary_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

/// Of exported keys, imported ones and cross references alike.
pub(super) fn foreign_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

pub(super) async fn primary(
    session: &mut Session,
    command: CommandGetPrimaryKeys,
    stop: &CancellationToken,
) -> Result<RecordBatch> {
    if command.catalog.is_some_and(|catalog| catalog != DATABASE) {
        return Ok(RecordBatch::new_empty(primary_schema()));
    }
    let parameters = [Some(command.table), command.db_schema].map(ScalarValue::Utf8);
    let mut names: [Vec<Option<String>>; 4] = Default::default();
    let mut places = Vec::new();
    for batch in run::rows(session, PRIMARY, &parameters, stop).await? {
        for (column, names) in names.iter_mut().enumerate() {
            names.extend(texts(&batch, column));
        }
        let place = |it: Option<i64>| it.and_then(|it| i32::try_from(it).ok());
        places.extend(numbers(&batch, 4).map(place));
    }
    let catalogs = vec![Some(DATABASE); places.len()];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(catalogs))];
    columns.extend(names.map(|names| Arc::new(StringArray::from(names)) as ArrayRef));
    columns.push(Arc::new(Int32Array::from(places)));
    RecordBatch::try_new(primary_schema(), columns)
        .map_err(|error| Error::internal("a key has no name").with_source(error))
}
