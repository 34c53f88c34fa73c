//! The rows of `COPY` data on their way into batches.
//!
//! What it guarantees: a batch is given out after 8192 rows or 8 MiB of data; an error names the
//! line and the column. What it does not: a NULL where none may be is the write path's to report.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Buf;
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::copy::{CopyFormat, CopyOptions};
use kho_sql::input::ColumnBuilder;
use kho_sql::session::ValueFormat;

use super::field::Fields;
use super::{bad_format, in_context};

const BATCH_ROWS: usize = 8_192;
const BATCH_BYTES: usize = 8 << 20;

/// The rows that are not in a batch yet.
pub(super) struct Rows {
    schema: SchemaRef,
    builders: Vec<ColumnBuilder>,
    null: String,
    force_null: Vec<bool>,
    force_not_null: Vec<bool>,
    rows: usize,
    bytes: usize,
}

impl Rows {
    pub(super) fn new(
        schema: &SchemaRef,
        options: &CopyOptions,
        format: &ValueFormat,
    ) -> Result<Rows> {
        let builders = schema.fields().iter().map(|field| ColumnBuilder::new(field, format));
        let is_csv = options.format == CopyFormat::Csv;
        let marked = |positions: &[usize]| {
            let count = schema.fields().len();
            (0..count).map(|index| is_csv && positions.contains(&index)).collect()
        };
        Ok(Rows {
            schema: schema.clone(),
            builders: builders.collect::<Result<_>>()?,
            null: options.null.clone(),
            force_null: marked(&options.force_null),
            force_not_null: marked(&options.force_not_null),
            rows: 0,
            bytes: 0,
        })
    }

    pub(super) fn columns(&self) -> usize {
        self.builders.len()
    }

    pub(super) fn append(&mut self, fields: &Fields, line: &str, number: u64) -> Result<()> {
        let in_line = |error| in_context(error, number, None, Some(line));
        let expected = self.builders.len();
        let is_empty_line = expected == 0 && line.is_empty();
        if fields.count() > expected && !is_empty_line {
            return Err(in_line(bad_format("extra data after last expected column")));
        }
        let forced = self.force_null.iter().zip(&self.force_not_null);
        let columns = self.builders.iter_mut().zip(self.schema.fields()).zip(forced);
        for (index, ((builder, field), (force_null, force_not_null))) in columns.enumerate() {
            if index >= fields.count() {
                let message = format!("missing data for column \"{}\"", field.name());
                return Err(in_line(bad_format(message)));
            }
            let in_column = |error| in_context(error, number, Some(field.name()), None);
            let mut value = fields.get(index, line).map_err(in_column)?;
            if *force_not_null && value.is_none() {
                value = Some(&self.null);
            } else if *force_null && value == Some(self.null.as_str()) {
                value = None;
            }
            builder
                .append(value)
                .map_err(|error| in_context(error, number, Some(field.name()), value))?;
        }
        Ok(())
    }

    /// Appends a row that `binary::read_row` found whole.
    pub(super) fn append_binary(&mut self, row: &[u8], number: u64) -> Result<()> {
        let mut rest = row.get(2..).unwrap_or_default();
        for (builder, field) in self.builders.iter_mut().zip(self.schema.fields()) {
            let value = match usize::try_from(rest.try_get_i32().unwrap_or(-1)) {
                Ok(length) => {
                    let (value, after) = rest.split_at_checked(length).unwrap_or_default();
                    rest = after;
                    Some(value)
                }
                Err(_) => None,
            };
            builder
                .append_binary(value)
                .map_err(|error| in_context(error, number, Some(field.name()), None))?;
        }
        Ok(())
    }

    pub(super) fn check_header(&self, fields: &Fields, line: &str) -> Result<()> {
        let expected = self.schema.fields().len();
        if fields.count() != expected {
            return Err(bad_format(format!(
                "wrong number of fields in header line: got {}, expected {expected}",
                fields.count()
            )));
        }
        for (index, field) in self.schema.fields().iter().enumerate() {
            let found = match fields.get(index, line)? {
                Some(name) if name == field.name() => continue,
                Some(name) => format!("\"{name}\""),
                None => format!("null value (\"{}\")", self.null),
            };
            return Err(bad_format(format!(
                "column name mismatch in header line field {}: got {found}, expected \"{}\"",
                index + 1,
                field.name()
            )));
        }
        Ok(())
    }

    /// Counts a row of so many bytes; gives a batch if it is full with it.
    pub(super) fn take_full_batch(&mut self, bytes: usize) -> Result<Option<RecordBatch>> {
        self.rows += 1;
        self.bytes += bytes;
        if self.rows < BATCH_ROWS && self.bytes < BATCH_BYTES {
            return Ok(None);
        }
        self.take_batch()
    }

    pub(super) fn take_batch(&mut self) -> Result<Option<RecordBatch>> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows == 0 {
            return Ok(None);
        }
        let arrays = self.builders.iter_mut().map(ColumnBuilder::finish);
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(arrays.is_empty().then_some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map(Some)
            .map_err(null_in_batch)
    }
}

/// What is wrong with arrays that are of their fields' types: a NULL where none may be.
fn null_in_batch(error: arrow::error::ArrowError) -> Error {
    Error::new(Kind::NotNullViolation, "null value in a column that must not be null")
        .with_source(error)
}
