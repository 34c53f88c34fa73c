//! `COPY … TO STDOUT`: from batches to `CopyData` messages, one for each row.
//!
//! What it guarantees: the binary signature is in the message of the first row, as PostgreSQL
//! sends it and DuckDB reads it; the bytes of PostgreSQL: escapes in text; in CSV, quotes around what holds
//! a delimiter, a quote or a newline, what equals the NULL string, and a lone `\.`.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::{BufMut, BytesMut};
use kho_catalog::error::{Error, Result};
use kho_sql::copy::{CopyFormat, CopyHeader, CopyOptions};
use kho_sql::session::ValueFormat;

use super::super::binary::{write_message, write_sized};
use super::super::column::{Column, Spelling};
use super::super::row::columns_of;
use super::super::wire::Wire;
use super::BINARY_SIGNATURE;

/// Writes the data of one `COPY`.
pub struct CopyEncoder {
    schema: SchemaRef,
    options: CopyOptions,
    spelling: Spelling,
    /// For each column, whether its values are always quoted.
    force_quote: Vec<bool>,
    /// Whether no number can need an escape or quotes.
    numbers_are_plain: bool,
    /// Whether the binary signature has yet to be written.
    owes_signature: bool,
    scratch: BytesMut,
}

impl CopyEncoder {
    /// An encoder for the rows of `schema`.
    ///
    /// # Errors
    /// `22023` for options that do not work together or an unknown time zone, `0A000` for
    /// `HEADER MATCH`.
    pub fn try_new(
        schema: &SchemaRef,
        options: &CopyOptions,
        format: &ValueFormat,
    ) -> Result<CopyEncoder> {
        super::check_options(schema, options)?;
        if options.header == CopyHeader::Match && options.format != CopyFormat::Binary {
            return Err(Error::unsupported("cannot use \"match\" with HEADER in COPY TO"));
        }
        let count = schema.fields().len();
        let in_number = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b':' | b' ')
        };
        let is_csv = options.format == CopyFormat::Csv;
        let null = options.null.as_bytes();
        let null_is_number = is_csv && !null.is_empty() && null.iter().all(|byte| in_number(*byte));
        Ok(CopyEncoder {
            schema: schema.clone(),
            spelling: Spelling::new(format)?,
            force_quote: (0..count)
                .map(|index| is_csv && options.force_quote.contains(&index))
                .collect(),
            numbers_are_plain: !(in_number(options.delimiter)
                || null_is_number
                || (is_csv && in_number(options.quote))),
            owes_signature: options.format == CopyFormat::Binary,
            options: options.clone(),
            scratch: BytesMut::new(),
        })
    }

    /// Appends what comes before the rows: a header line. The binary signature goes with the first
    /// row.
    ///
    /// # Errors
    /// `54000` for a header over 2 GiB.
    pub fn start(&mut self, out: &mut BytesMut) -> Result<()> {
        if self.options.format == CopyFormat::Binary || self.options.header == CopyHeader::Absent {
            return Ok(());
        }
        let is_single = self.schema.fields().len() == 1;
        write_message(b'd', out, |out| {
            for (index, field) in self.schema.fields().iter().enumerate() {
                if index > 0 {
                    out.put_u8(self.options.delimiter);
                }
                write_field(&self.options, field.name().as_bytes(), false, is_single, out);
            }
            out.put_u8(b'\n');
            Ok(())
        })
    }

    /// Appends all rows of `batch`.
    ///
    /// # Errors
    /// As `RowEncoder::encode`.
    pub fn encode(&mut self, batch: &RecordBatch, out: &mut BytesMut) -> Result<()> {
        self.encode_bounded(batch, 0, usize::MAX, out).map(|_| ())
    }

    /// Appends rows from `from_row` on, until `out` reaches `max_bytes`; gives how many.
    ///
    /// # Errors
    /// As `RowEncoder::encode`.
    pub fn encode_bounded(
        &mut self,
        batch: &RecordBatch,
        from_row: usize,
        max_bytes: usize,
        out: &mut BytesMut,
    ) -> Result<usize> {
        let columns = columns_of(&self.schema, batch)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        for row in from_row..batch.num_rows() {
            let signature = std::mem::take(&mut self.owes_signature);
            write_message(b'd', out, |out| match self.options.format {
                CopyFormat::Binary => {
                    if signature {
                        write_signature(out);
                    }
                    self.write_binary_row(&columns, row, out)
                }
                CopyFormat::Text | CopyFormat::Csv => {
                    self.write_row(&columns, row, &mut scratch, out)
                }
            })?;
            if out.len() >= max_bytes {
                self.scratch = scratch;
                return Ok(row + 1 - from_row);
            }
        }
        self.scratch = scratch;
        Ok(batch.num_rows().saturating_sub(from_row))
    }

    /// Appends what comes after the rows: the binary trailer, which without a row has the signature
    /// before it.
    ///
    /// # Errors
    /// None today.
    pub fn finish(&mut self, out: &mut BytesMut) -> Result<()> {
        if self.options.format != CopyFormat::Binary {
            return Ok(());
        }
        let signature = std::mem::take(&mut self.owes_signature);
        write_message(b'd', out, |out| {
            if signature {
                write_signature(out);
            }
            out.put_i16(-1);
            Ok(())
        })
    }

    fn write_row(
        &self,
        columns: &[Column<'_>],
        row: usize,
        scratch: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<()> {
        let is_single = columns.len() == 1;
        for (index, (column, force_quote)) in columns.iter().zip(&self.force_quote).enumerate() {
            if index > 0 {
                out.put_u8(self.options.delimiter);
            }
            if column.is_null(row) {
                out.put_slice(self.options.null.as_bytes());
                continue;
            }
            if self.numbers_are_plain && !force_quote && is_number(&column.wire) {
                column.write_text(row, &self.spelling, out)?;
                continue;
            }
            if let Some(text) = column.as_text(row) {
                write_field(&self.options, text.as_bytes(), *force_quote, is_single, out);
                continue;
            }
            scratch.clear();
            column.write_text(row, &self.spelling, scratch)?;
            write_field(&self.options, scratch, *force_quote, is_single, out);
        }
        out.put_u8(b'\n');
        Ok(())
    }

    fn write_binary_row(
        &self,
        columns: &[Column<'_>],
        row: usize,
        out: &mut BytesMut,
    ) -> Result<()> {
        let count = i16::try_from(columns.len());
        out.put_i16(count.map_err(|_| Error::unsupported("too many columns for binary COPY"))?);
        for column in columns {
            if column.is_null(row) {
                out.put_i32(-1);
            } else {
                write_sized(out, |out| column.write_binary(row, &self.spelling, out))?;
            }
        }
        Ok(())
    }
}

/// The signature, no flags, no header extension.
fn write_signature(out: &mut BytesMut) {
    out.put_slice(BINARY_SIGNATURE);
    out.put_bytes(0, 8);
}

/// Types whose text has letters, digits, signs, points, colons and spaces alone.
fn is_number(wire: &Wire) -> bool {
    matches!(
        wire,
        Wire::Boolean
            | Wire::Int2
            | Wire::Int4
            | Wire::Int8
            | Wire::Oid
            | Wire::Float4
            | Wire::Float8
            | Wire::Numeric(_)
            | Wire::Date
            | Wire::Time
            | Wire::Timestamp
            | Wire::TimestampTz
            | Wire::Interval
    )
}

fn write_field(
    options: &CopyOptions,
    value: &[u8],
    force_quote: bool,
    is_single: bool,
    out: &mut BytesMut,
) {
    if options.format == CopyFormat::Text {
        return write_escaped(value, options.delimiter, out);
    }
    let is_special = |byte: &u8| {
        *byte == options.delimiter || *byte == options.quote || matches!(byte, b'\n' | b'\r')
    };
    let needs_quotes = force_quote
        || value == options.null.as_bytes()
        || (is_single && value == b"\\.")
        || value.iter().any(is_special);
    if !needs_quotes {
        out.put_slice(value);
        return;
    }
    out.put_u8(options.quote);
    let mut rest = value;
    while let Some(at) = memchr::memchr2(options.quote, options.escape, rest) {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.put_slice(before);
        out.put_u8(options.escape);
        out.put_slice(after.get(..1).unwrap_or_default());
        rest = after.get(1..).unwrap_or_default();
    }
    out.put_slice(rest);
    out.put_u8(options.quote);
}

fn write_escaped(value: &[u8], delimiter: u8, out: &mut BytesMut) {
    let mut rest = value;
    let is_special = |byte: &u8| matches!(byte, 8..=13 | b'\\') || *byte == delimiter;
    while let Some(at) = rest.iter().position(is_special) {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.put_slice(before);
        let byte = after.first().copied().unwrap_or_default();
        out.put_slice(&[
            b'\\',
            match byte {
                8 => b'b',
                b'\t' => b't',
                b'\n' => b'n',
                11 => b'v',
                12 => b'f',
                b'\r' => b'r',
                other => other,
            },
        ]);
        rest = after.get(1..).unwrap_or_default();
    }
    out.put_slice(rest);
}
