//! Rows as `DataRow` messages.
//!
//! What it guarantees: whole messages only; the columns are looked at once per call and written
//! row by row into one buffer.
//! On failure: the rows before the one that failed are in the buffer, nothing of it is.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::{BufMut, BytesMut};
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::session::ValueFormat;

use super::binary::{write_message, write_sized};
use super::column::{Column, Spelling};
use super::wire::{FormatCode, Wire};

/// Writes the rows of one result.
#[derive(Clone, Debug)]
pub struct RowEncoder {
    schema: SchemaRef,
    /// One for each column.
    formats: Vec<FormatCode>,
    spelling: Spelling,
}

impl RowEncoder {
    /// `formats` as in `Bind`: none (all text), one for all columns, or one for each.
    ///
    /// # Errors
    /// `08P01` for another number of formats, `22023` for an unknown time zone, `54000` for more
    /// columns than a message can count.
    pub fn try_new(
        schema: &SchemaRef,
        formats: &[FormatCode],
        format: &ValueFormat,
    ) -> Result<RowEncoder> {
        let count = schema.fields().len();
        if i16::try_from(count).is_err() {
            return Err(Error::new(
                Kind::ProgramLimitExceeded,
                format!("a result can have at most {} columns", i16::MAX),
            ));
        }
        let formats = match formats {
            [] => vec![FormatCode::Text; count],
            [all] => vec![*all; count],
            each if each.len() == count => each.to_vec(),
            other => {
                return Err(Error::new(
                    Kind::ProtocolViolation,
                    format!(
                        "bind message has {} result formats but query has {count} columns",
                        other.len()
                    ),
                ));
            }
        };
        let spelling = Spelling::new(format)?;
        Ok(RowEncoder { schema: schema.clone(), formats, spelling })
    }

    /// The format of each column, as `RowDescription` states it.
    pub fn formats(&self) -> &[FormatCode] {
        &self.formats
    }

    /// Appends all rows of `batch`.
    ///
    /// # Errors
    /// `22008` for a time PostgreSQL's format cannot hold, `0A000` for a ragged array in binary,
    /// `54000` for a row over 2 GiB.
    pub fn encode(&self, batch: &RecordBatch, out: &mut BytesMut) -> Result<()> {
        self.encode_some(batch, 0, batch.num_rows(), out).map(|_| ())
    }

    /// Appends at most `max_rows` rows from `from_row` on; gives how many.
    ///
    /// # Errors
    /// As [`RowEncoder::encode`].
    pub fn encode_some(
        &self,
        batch: &RecordBatch,
        from_row: usize,
        max_rows: usize,
        out: &mut BytesMut,
    ) -> Result<usize> {
        self.encode_bounded(batch, from_row, max_rows, usize::MAX, out)
    }

    /// As [`RowEncoder::encode_some`], and stops after the row with which `out` reaches
    /// `max_bytes`, so that wide rows do not fill the memory.
    ///
    /// # Errors
    /// As [`RowEncoder::encode`].
    pub fn encode_bounded(
        &self,
        batch: &RecordBatch,
        from_row: usize,
        max_rows: usize,
        max_bytes: usize,
        out: &mut BytesMut,
    ) -> Result<usize> {
        let to_row = batch.num_rows().min(from_row.saturating_add(max_rows));
        if from_row >= to_row {
            return Ok(0);
        }
        let columns = columns_of(&self.schema, batch)?;
        let count = i16::try_from(columns.len()).unwrap_or(i16::MAX);
        for row in from_row..to_row {
            write_message(b'D', out, |out| {
                out.put_i16(count);
                for (column, format) in columns.iter().zip(&self.formats) {
                    self.write_value(column, *format, row, out)?;
                }
                Ok(())
            })?;
            if out.len() >= max_bytes {
                return Ok(row + 1 - from_row);
            }
        }
        Ok(to_row - from_row)
    }

    fn write_value(
        &self,
        column: &Column<'_>,
        format: FormatCode,
        row: usize,
        out: &mut BytesMut,
    ) -> Result<()> {
        if column.is_null(row) {
            out.put_i32(-1);
            return Ok(());
        }
        match format {
            FormatCode::Text => write_sized(out, |out| column.write_text(row, &self.spelling, out)),
            FormatCode::Binary => {
                write_sized(out, |out| column.write_binary(row, &self.spelling, out))
            }
        }
    }
}

/// Looks at the columns of a batch that was announced as `schema`.
pub(super) fn columns_of<'a>(
    schema: &SchemaRef,
    batch: &'a RecordBatch,
) -> Result<Vec<Column<'a>>> {
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::internal("a batch has another number of columns than was announced"));
    }
    let pairs = schema.fields().iter().zip(batch.columns());
    pairs
        .map(|(field, array)| {
            let column = Column::new(field, array)?;
            if column.wire.oid() == Wire::of_field(field).oid() {
                Ok(column)
            } else {
                Err(Error::internal(format!(
                    "column \"{}\" has another type than was announced",
                    field.name()
                )))
            }
        })
        .collect()
}
