//! Taking Parquet field ids out of what was read.
//!
//! # Why
//! Files of other writers carry `PARQUET:field_id` in each field's metadata. Written on into a
//! Delta table it lands in the table's schema, and DuckDB then looks the columns up by ids that the
//! data files do not have and reads every one of them as NULL. So no source lets an id out.

use std::sync::Arc;

use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

/// The schema without field ids at any depth, and without the file's own key-value metadata.
pub(super) fn without_field_ids(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(strip).collect::<Vec<_>>()))
}

/// `batch` as of `schema`, which is its own schema after [`without_field_ids`].
pub(super) fn conform(
    batch: &RecordBatch,
    schema: &SchemaRef,
) -> std::result::Result<RecordBatch, ArrowError> {
    // Metadata is a part of a nested type, so nested columns need a cast, which copies no values.
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| cast(column, field.data_type()))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

fn strip(field: &FieldRef) -> FieldRef {
    let mut metadata = field.metadata().clone();
    metadata.remove(PARQUET_FIELD_ID_META_KEY);
    let data_type = match field.data_type() {
        DataType::List(element) => DataType::List(strip(element)),
        DataType::LargeList(element) => DataType::LargeList(strip(element)),
        DataType::ListView(element) => DataType::ListView(strip(element)),
        DataType::LargeListView(element) => DataType::LargeListView(strip(element)),
        DataType::FixedSizeList(element, size) => DataType::FixedSizeList(strip(element), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(strip).collect()),
        DataType::Map(entries, sorted) => DataType::Map(strip(entries), *sorted),
        flat => flat.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(metadata))
}
