//! How much memory a row takes, roughly: for the size of batches, never for answers.
//!
//! What it is: the log says how large a file is, compressed; its footer says how many bytes the texts in
//! it have. The footer that is asked is that of the file whose rows are the largest by the log, and of
//! its row groups the one whose rows are.
//! What it does not: a few large rows among many small ones are not seen; what holds a batch counts it.
//! On failure: a guess by the log; the scan says what is wrong with a file.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::execution::runtime_env::RuntimeEnv;
use parquet::basic::Type as Physical;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use super::lookup::footer_of;
use super::{DataFile, Snapshot};

/// What a value of a type without a fixed width is taken to need, where no file tells.
const UNKNOWN_BYTES: usize = 16;
/// How far files are compressed, where nothing else is known.
const COMPRESSED: u64 = 4;

/// The bytes of a value, on average, by the name of its column.
pub(super) type Widths = HashMap<String, usize>;

impl Snapshot {
    /// About how many bytes a row of `columns` takes in memory; of all columns where that is `None`.
    pub async fn row_bytes(&self, runtime: Arc<RuntimeEnv>, columns: Option<Vec<usize>>) -> usize {
        let schema = self.schema();
        let fields = match columns {
            Some(columns) => schema.project(&columns).map(|it| it.fields).unwrap_or_default(),
            None => schema.fields().clone(),
        };
        match fields.iter().map(|it| width_of(it.data_type())).sum() {
            Some(fixed) => fixed,
            None => row_of(&fields, self.once().widths.get_or_init(|| self.measure(runtime)).await),
        }
    }

    /// What the file says whose rows are the largest.
    async fn measure(&self, runtime: Arc<RuntimeEnv>) -> Widths {
        let listed = self.listed();
        let files = listed.scanned.iter().zip(listed.files.iter());
        let Some((scanned, file)) = files.max_by_key(|(_, file)| stored_row(file)) else {
            return Widths::new();
        };
        let (scanned, row) = (scanned.clone(), stored_row(file));
        let store = self.log_store().root_object_store(None);
        match footer_of(store.as_ref(), &runtime, &scanned).await {
            Ok(footer) => widths(&footer),
            Err(error) => {
                tracing::debug!(%error, "a footer does not tell how large rows are");
                let whole = usize::try_from(row.saturating_mul(COMPRESSED)).unwrap_or(usize::MAX);
                self.schema().fields().iter().map(|it| (it.name().clone(), whole)).collect()
            }
        }
    }
}

/// What a row takes in the file.
fn stored_row(file: &DataFile) -> u64 {
    file.size_bytes / file.records.unwrap_or(1).max(1)
}

fn row_of(fields: &Fields, widths: &Widths) -> usize {
    let told = |it: &Field| widths.get(it.name()).copied().unwrap_or(UNKNOWN_BYTES);
    let of = |it: &Field| width_of(it.data_type()).unwrap_or_else(|| told(it));
    fields.iter().map(|it| of(it)).fold(0, usize::saturating_add)
}

/// The widths of the values in a file, column by column, in the row group where they are largest.
fn widths(footer: &ParquetMetaData) -> Widths {
    let mut widths = Widths::new();
    for group in footer.row_groups() {
        let rows = usize::try_from(group.num_rows()).unwrap_or(1).max(1);
        let mut of_group = Widths::new();
        for chunk in group.columns() {
            let Some(column) = chunk.column_path().parts().first() else { continue };
            // A column that has several leaves has their bytes together.
            *of_group.entry(column.clone()).or_default() += bytes_of(chunk) / rows;
        }
        for (column, bytes) in of_group {
            let widest = widths.entry(column).or_default();
            *widest = bytes.max(*widest);
        }
    }
    widths
}

/// What the values of a chunk take when they are decoded.
fn bytes_of(chunk: &ColumnChunkMetaData) -> usize {
    let encoded = usize::try_from(chunk.uncompressed_size()).unwrap_or_default();
    let values = usize::try_from(chunk.num_values()).unwrap_or_default();
    match chunk.column_type() {
        Physical::BYTE_ARRAY => {
            let told = chunk.unencoded_byte_array_data_bytes();
            told.and_then(|it| usize::try_from(it).ok()).unwrap_or(encoded)
        }
        _ => encoded.max(values.saturating_mul(8)),
    }
}

/// What a value of this type takes, where all take the same.
fn width_of(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Boolean | DataType::Null => Some(1),
        DataType::FixedSizeBinary(bytes) => usize::try_from(*bytes).ok(),
        other => other.primitive_width(),
    }
}

#[cfg(test)]
mod tests;
