//! A Parquet file as a source.
//!
//! What it guarantees: the footer is read once, when the file is opened; batches have the schema
//! the file declares less its field ids; rows come in file order.
//! What it does not: memory is bounded by the columns of one row group, which the file's writer
//! chose, not by the batch.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt};
use kho_catalog::error::{Error, Kind, Result};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use tokio::fs::File;

use super::place::{self, Stamp};
use super::schema;
use crate::source::{Batches, Offset, Source};

/// An opened Parquet file.
pub struct ParquetFile {
    path: PathBuf,
    stamp: Stamp,
    footer: ArrowReaderMetadata,
    schema: SchemaRef,
    batch_rows: usize,
}

impl ParquetFile {
    /// Opens the file and reads its footer.
    ///
    /// # Errors
    /// `58030` when it cannot be read, `42809` when it is not a plain file, `22P04` when it is not
    /// Parquet.
    pub async fn open(path: impl Into<PathBuf>, batch_rows: usize) -> Result<ParquetFile> {
        let path = path.into();
        let (mut file, stamp) = place::open(&path).await?;
        let footer = ArrowReaderMetadata::load_async(&mut file, ArrowReaderOptions::new())
            .await
            .map_err(|error| malformed(&path, error))?;
        let schema = schema::without_field_ids(footer.schema());
        Ok(ParquetFile { path, stamp, footer, schema, batch_rows: batch_rows.max(1) })
    }
}

impl Source for ParquetFile {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn batches(&self, after: Option<&Offset>) -> Batches {
        let (path, stamp, schema) = (self.path.clone(), self.stamp, Arc::clone(&self.schema));
        let (footer, batch_rows) = (self.footer.clone(), self.batch_rows);
        let before = place::rows_before(after, stamp, &path);
        let opened = async move {
            let before = before?;
            let reader = open_at(&path, stamp, footer, before, batch_rows).await?;
            Ok::<_, Error>(convert(reader, path, stamp, schema, before))
        };
        futures::stream::once(opened).try_flatten().boxed()
    }
}

async fn open_at(
    path: &Path,
    stamp: Stamp,
    footer: ArrowReaderMetadata,
    rows_before: usize,
    batch_rows: usize,
) -> Result<ParquetRecordBatchStream<File>> {
    let (file, now) = place::open(path).await?;
    if now != stamp {
        return Err(place::changed(path));
    }
    ParquetRecordBatchStreamBuilder::new_with_metadata(file, footer)
        .with_batch_size(batch_rows)
        .with_offset(rows_before)
        .build()
        .map_err(|error| malformed(path, error))
}

fn convert(
    reader: ParquetRecordBatchStream<File>,
    path: PathBuf,
    stamp: Stamp,
    schema: SchemaRef,
    rows_before: usize,
) -> Batches {
    let mut rows = rows_before;
    reader
        .map(move |batch| {
            let batch = batch.map_err(|error| malformed(&path, error))?;
            let batch =
                schema::conform(&batch, &schema).map_err(|error| malformed(&path, error.into()))?;
            rows = rows.saturating_add(batch.num_rows());
            Ok((batch, place::offset(rows, stamp)?))
        })
        .boxed()
}

/// What the reader says goes to the trace: it may quote what it read.
fn malformed(path: &Path, error: ParquetError) -> Error {
    let message = format!("file \"{}\" is not readable as Parquet", path.display());
    Error::new(Kind::BadCopyFormat, message).with_source(error)
}
