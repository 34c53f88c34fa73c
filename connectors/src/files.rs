//! Files on the server's own disk, named by an operator: CSV and Parquet.
//!
//! What it guarantees: batches of at most the given number of rows; memory bounded by a batch (CSV)
//! or a row group (Parquet); a file that was changed since it was opened is refused when a reader
//! wants to go on in it, since rows would be lost or read twice.
//! What it does not: it watches no folder and expands no pattern; it does not notice a file that
//! changes while it is being read. Which paths a user may name is decided by whoever calls.
//! On failure: `58030` when the file cannot be read, `22P04` and `22021` when its content is wrong.

mod csv;
mod parquet;
mod place;
mod schema;

#[cfg(test)]
mod tests;

pub use csv::{CsvFile, CsvOptions};
pub use parquet::ParquetFile;

/// Rows of a batch where the caller has no better number: DataFusion's own batch size.
pub const BATCH_ROWS: usize = 8192;
