//! `COPY`: its options, and the end that batches are fed into.
//!
//! What it guarantees: an option is obeyed or refused; nothing is visible before
//! `Session::finish_copy`, and a dropped [`CopyIn`] leaves nothing behind.
//! What it does not: it reads and writes no bytes of a format; the wire does.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use kho_catalog::error::Result;

/// How the data of a `COPY` is written, with PostgreSQL's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    /// One byte, not a quote, a newline or a carriage return.
    pub delimiter: u8,
    /// What stands for NULL: `\N` in text, the unquoted empty string in CSV.
    pub null: String,
    pub header: CopyHeader,
    /// CSV only.
    pub quote: u8,
    /// CSV only.
    pub escape: u8,
    /// Positions, among the copied columns, that are always quoted on the way out (CSV).
    pub force_quote: Vec<usize>,
    /// Positions whose values are never matched against `null` on the way in (CSV).
    pub force_not_null: Vec<usize>,
    /// Positions whose values are matched against `null` even when quoted (CSV).
    pub force_null: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// The first line of text or CSV data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyHeader {
    /// It is data.
    Absent,
    /// In: passed over. Out: the column names.
    Present,
    /// In: must name the columns, in order.
    Match,
}

/// Where a `COPY … FROM STDIN` puts its rows.
pub struct CopyIn {
    schema: SchemaRef,
    options: CopyOptions,
}

impl CopyIn {
    /// The columns to be delivered, in order. Text columns are `Utf8`; declared types that Arrow
    /// lacks are in the field metadata (`kho_catalog::types::Type::from_field`).
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn options(&self) -> &CopyOptions {
        &self.options
    }

    /// Takes one batch of [`CopyIn::schema`]; waits while the storage is slower than the client.
    ///
    /// # Errors
    /// What the write path says: `23502`, `23514`, `22001`, `58030`. The copy is over then.
    pub async fn write(&mut self, _batch: RecordBatch) -> Result<()> {
        Err(kho_catalog::error::Error::unsupported("COPY is not wired yet"))
    }
}
