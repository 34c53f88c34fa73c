//! `COPY … FROM STDIN`: from bytes to batches.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::{Buf, BytesMut};
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::copy::{CopyFormat, CopyHeader, CopyOptions};
use kho_sql::input::{checked_utf8, invalid_encoding};
use kho_sql::session::ValueFormat;

use super::binary::{Step, read_header, read_row};
use super::field::Fields;
use super::line::{Found, LineSplitter};
use super::rows::Rows;
use super::{bad_format, in_context};

const LINE_BYTES: usize = 256 << 20;

/// Reads the data of one `COPY`.
pub struct CopyDecoder {
    lines: LineSplitter,
    fields: Fields,
    rows: Rows,
    header: CopyHeader,
    format: CopyFormat,
    /// What has come and is not a whole line (or row) yet.
    pending: BytesMut,
    pub(super) line_bytes_max: usize,
    line: u64,
    is_begun: bool,
    is_ended: bool,
}

impl CopyDecoder {
    /// A decoder for the columns of `schema`.
    ///
    /// # Errors
    /// `0A000` for a column that values cannot be read for, `22023` for options that do not work
    /// together.
    pub fn try_new(
        schema: &SchemaRef,
        options: &CopyOptions,
        format: &ValueFormat,
    ) -> Result<CopyDecoder> {
        super::check_options(schema, options)?;
        Ok(CopyDecoder {
            lines: LineSplitter::new(options),
            fields: Fields::new(options),
            rows: Rows::new(schema, options, format)?,
            header: options.header,
            format: options.format,
            pending: BytesMut::new(),
            line_bytes_max: LINE_BYTES,
            line: 0,
            is_begun: false,
            is_ended: false,
        })
    }

    /// Takes the next piece of the data, cut anywhere; gives the batches it filled.
    ///
    /// # Errors
    /// `22P04` and the errors of `ColumnBuilder`, with line and column in the detail; `54000`
    /// for a line over 256 MiB.
    pub fn push(&mut self, data: &[u8]) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        let mut pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            let used = self.consume(data, false, &mut batches)?;
            pending.extend_from_slice(data.get(used..).unwrap_or_default());
        } else {
            pending.extend_from_slice(data);
            let used = self.consume(&pending, false, &mut batches)?;
            pending.advance(used);
        }
        if pending.len() > self.line_bytes_max {
            let message = "a line of the data is too long";
            let error = Error::new(Kind::ProgramLimitExceeded, message)
                .with_detail(format!("The limit is {} bytes.", self.line_bytes_max));
            return Err(in_context(error, self.line + 1, None, None));
        }
        self.pending = pending;
        Ok(batches)
    }

    /// Ends the data; gives the last batches.
    ///
    /// # Errors
    /// As [`CopyDecoder::push`], and `22P04` for binary data that ends within a row.
    pub fn finish(&mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        let pending = std::mem::take(&mut self.pending);
        self.consume(&pending, true, &mut batches)?;
        if !self.is_begun && self.header == CopyHeader::Match && self.format != CopyFormat::Binary {
            // No data at all lacks the header too.
            self.line += 1;
            self.read_line(b"")?;
        }
        batches.extend(self.rows.take_batch()?);
        Ok(batches)
    }

    /// Reads what is whole in `data`; gives how much that was.
    fn consume(
        &mut self,
        data: &[u8],
        is_all: bool,
        batches: &mut Vec<RecordBatch>,
    ) -> Result<usize> {
        match self.format {
            CopyFormat::Binary => self.consume_binary(data, is_all, batches),
            CopyFormat::Text | CopyFormat::Csv => self.consume_lines(data, is_all, batches),
        }
    }

    fn consume_lines(
        &mut self,
        data: &[u8],
        is_all: bool,
        batches: &mut Vec<RecordBatch>,
    ) -> Result<usize> {
        let mut rest = data;
        while !self.is_ended {
            let found = self.lines.find(rest, is_all);
            self.line += self.lines.take_embedded();
            let found = found.map_err(|error| in_context(error, self.line + 1, None, None))?;
            let (length, next) = match found {
                Found::Nothing => return Ok(data.len() - rest.len()),
                Found::Line { length, next } => (length, next),
                Found::Marker { length } => {
                    self.is_ended = true;
                    if length == 0 {
                        break;
                    }
                    (length, length)
                }
            };
            let (line, _) = rest.split_at_checked(length).unwrap_or_default();
            self.line += 1;
            if self.read_line(line)? {
                batches.extend(self.rows.take_full_batch(next)?);
            }
            rest = rest.get(next..).unwrap_or_default();
        }
        // What follows the end marker is no data.
        Ok(data.len())
    }

    /// Tells whether the line was a row.
    fn read_line(&mut self, line: &[u8]) -> Result<bool> {
        let number = self.line;
        let at_line = |error| in_context(error, number, None, None);
        let text = checked_utf8(line).map_err(at_line)?;
        if memchr::memchr(0, line).is_some() {
            return Err(at_line(invalid_encoding(&[0])));
        }
        let is_header = !self.is_begun && self.header != CopyHeader::Absent;
        self.is_begun = true;
        if is_header && self.header == CopyHeader::Present {
            return Ok(false);
        }
        let in_line = |error| in_context(error, number, None, Some(text));
        self.fields.split(text).map_err(in_line)?;
        if is_header {
            return self.rows.check_header(&self.fields, text).map(|()| false).map_err(in_line);
        }
        self.rows.append(&self.fields, text, number).map(|()| true)
    }

    fn consume_binary(
        &mut self,
        data: &[u8],
        is_all: bool,
        batches: &mut Vec<RecordBatch>,
    ) -> Result<usize> {
        let mut rest = data;
        if !self.is_begun {
            match read_header(rest, is_all)? {
                Some(length) => rest = rest.get(length..).unwrap_or_default(),
                None => return Ok(0),
            }
            self.is_begun = true;
        }
        loop {
            if self.is_ended && !rest.is_empty() {
                let error = bad_format("received copy data after EOF marker");
                return Err(in_context(error, self.line, None, None));
            }
            let line = self.line + 1;
            let step = read_row(rest, self.rows.columns(), self.line_bytes_max);
            match step.map_err(|error| in_context(error, line, None, None))? {
                Step::Row { length } => {
                    self.line = line;
                    let (row, after) = rest.split_at_checked(length).unwrap_or_default();
                    self.rows.append_binary(row, line)?;
                    batches.extend(self.rows.take_full_batch(length)?);
                    rest = after;
                }
                Step::End { length } => {
                    self.is_ended = true;
                    rest = rest.get(length..).unwrap_or_default();
                }
                Step::More if is_all && !rest.is_empty() => {
                    let error = bad_format("unexpected EOF in COPY data");
                    return Err(in_context(error, line, None, None));
                }
                Step::More => return Ok(data.len() - rest.len()),
            }
        }
    }
}
