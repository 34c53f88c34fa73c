//! What every source of data is to the rest of Kho.
//!
//! What it is: [`Source`], one set of rows of one shape, read as a stream, and [`Offset`], a place
//! in it to go on from.
//! What it guarantees: reading from an offset gives exactly the rows after the batch that the
//! offset came with, or an error when the source can no longer say which rows those are.
//! What it does not: the shape is the source's, not the destination's (names, order, widths and
//! nullability may differ); nothing is checked against a rule of a dataset.
//! On failure: the stream yields one error and ends.

use std::fmt;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;
use kho_catalog::error::Result;

/// Batches, each with the offset of its end.
pub type Batches = BoxStream<'static, Result<(RecordBatch, Offset)>>;

/// One set of rows of one shape: a file, a table of another database, an endpoint.
pub trait Source: Send + Sync {
    /// The shape of every batch. It carries no Parquet field ids.
    fn schema(&self) -> SchemaRef;

    /// The rows after `after`, or all of them. Several streams of one source may be read at once.
    ///
    /// # Errors
    /// As the stream's first item: `55000` when the source is no longer the one `after` came from,
    /// `22023` when `after` is not an offset of this kind of source. Later ones are the source's.
    fn batches(&self, after: Option<&Offset>) -> Batches;
}

/// A place in a source, in words that only that kind of source understands.
///
/// It is text so that whoever resumes can keep it anywhere; it holds no value of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Offset(String);

impl Offset {
    /// An offset from the text that [`Offset::as_str`] gave.
    pub fn new(text: impl Into<String>) -> Offset {
        Offset(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
