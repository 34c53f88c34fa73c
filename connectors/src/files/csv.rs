//! A CSV file with a header line as a source.
//!
//! What it guarantees: text is UTF-8 or refused (`22021`), never repaired; every record has as many
//! fields as the header; a quoted field that never ends is an error (`22P04`), not one long value.
//! Without a declared schema every column is text: a guess from the values would turn `0100` into
//! `100`, and would differ from one file to the next. Whoever knows the types declares them.
//! What it does not: the reader underneath cannot tell a quoted empty string from nothing, so both
//! are NULL here. Where `''` must stay apart from NULL, load by `COPY`, which has its own reader.
//! Every column may hold NULL: that a column may not is the destination's rule, and it checks it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::csv::ReaderBuilder;
use arrow::csv::reader::{Decoder, Format};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use kho_catalog::error::{Error, Kind, Result};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::place::{self, Stamp};
use super::{BATCH_ROWS, schema};
use crate::source::{Batches, Offset, Source};

const BUFFER_BYTES: usize = 256 * 1024;

/// How the file is written, with the defaults of RFC 4180.
#[derive(Clone, Debug)]
pub struct CsvOptions {
    /// The columns, in the order of the header and with its names. `None`: the header's, as text.
    pub schema: Option<SchemaRef>,
    pub delimiter: u8,
    pub quote: u8,
    pub batch_rows: usize,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions { schema: None, delimiter: b',', quote: b'"', batch_rows: BATCH_ROWS }
    }
}

/// An opened CSV file.
pub struct CsvFile {
    path: PathBuf,
    stamp: Stamp,
    schema: SchemaRef,
    options: CsvOptions,
}

impl CsvFile {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// `58030` when it cannot be read, `42809` when it is not a plain file, `22P04` when it has no
    /// header or another one than declared, `42701` when the header names a column twice.
    pub async fn open(path: impl Into<PathBuf>, options: CsvOptions) -> Result<CsvFile> {
        let path = path.into();
        let (file, stamp) = place::open(&path).await?;
        let header = read_header(file.into_std().await, &path, &options).await?;
        let schema = match &options.schema {
            Some(declared) => {
                check_header(&header, declared, &path)?;
                let fields = declared.fields().iter();
                let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
                schema::without_field_ids(&Schema::new(fields.collect::<Vec<_>>()))
            }
            None => {
                let text = |name: &String| Field::new(name, DataType::Utf8, true);
                Arc::new(Schema::new(header.iter().map(text).collect::<Vec<_>>()))
            }
        };
        Ok(CsvFile { path, stamp, schema, options })
    }
}

impl Source for CsvFile {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn batches(&self, after: Option<&Offset>) -> Batches {
        let before = place::rows_before(after, self.stamp, &self.path);
        let start = Start {
            path: self.path.clone(),
            stamp: self.stamp,
            schema: Arc::clone(&self.schema),
            options: self.options.clone(),
        };
        let opened = async move { start.open(before?).await };
        futures::stream::once(opened)
            .flat_map(|reader| match reader {
                Ok(reader) => futures::stream::unfold(Some(reader), step).boxed(),
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            })
            .boxed()
    }
}

/// One item of the stream; after an error there is nothing more.
async fn step(reader: Option<Reader>) -> Option<(Result<(RecordBatch, Offset)>, Option<Reader>)> {
    let mut reader = reader?;
    match reader.next().await {
        Ok(Some(item)) => Some((Ok(item), Some(reader))),
        Ok(None) => None,
        Err(error) => Some((Err(error), None)),
    }
}

/// What is needed to begin reading.
struct Start {
    path: PathBuf,
    stamp: Stamp,
    schema: SchemaRef,
    options: CsvOptions,
}

impl Start {
    async fn open(self, rows_before: usize) -> Result<Reader> {
        let (file, now) = place::open(&self.path).await?;
        if now != self.stamp {
            return Err(place::changed(&self.path));
        }
        let decoder = ReaderBuilder::new(self.schema)
            .with_header(true)
            .with_delimiter(self.options.delimiter)
            .with_quote(self.options.quote)
            .with_batch_size(self.options.batch_rows.max(1))
            // One less than the greatest number, since the header is added to it.
            .with_bounds(rows_before, usize::MAX - 1)
            .build_decoder();
        Ok(Reader {
            path: self.path,
            stamp: self.stamp,
            file,
            decoder,
            quote: self.options.quote,
            quotes: 0,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            rows: rows_before,
        })
    }
}

/// A file being decoded.
struct Reader {
    path: PathBuf,
    stamp: Stamp,
    file: File,
    decoder: Decoder,
    quote: u8,
    /// Quote characters seen so far. Quotes come in pairs, doubled ones too, so an odd number at
    /// the end is a field that was never closed.
    quotes: usize,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    rows: usize,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<(RecordBatch, Offset)>> {
        loop {
            if self.start == self.end {
                self.fill().await?;
            }
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            let at_end = unread.is_empty();
            if at_end && self.quotes % 2 == 1 {
                return Err(Error::new(
                    Kind::BadCopyFormat,
                    format!("unterminated quoted field in file \"{}\"", self.path.display()),
                ));
            }
            let taken =
                self.decoder.decode(unread).map_err(|error| malformed(&self.path, error))?;
            self.start += taken;
            if at_end || self.decoder.capacity() == 0 {
                break;
            }
        }
        let batch = self.decoder.flush().map_err(|error| malformed(&self.path, error))?;
        let Some(batch) = batch else {
            return Ok(None);
        };
        self.rows += batch.num_rows();
        Ok(Some((batch, place::offset(self.rows, self.stamp)?)))
    }

    async fn fill(&mut self) -> Result<()> {
        self.start = 0;
        self.end = self
            .file
            .read(&mut self.buffer)
            .await
            .map_err(|error| place::unreadable(&self.path, error))?;
        let read = self.buffer.get(..self.end).unwrap_or_default();
        self.quotes += read.iter().filter(|byte| **byte == self.quote).count();
        Ok(())
    }
}

async fn read_header(
    file: std::fs::File,
    path: &Path,
    options: &CsvOptions,
) -> Result<Vec<String>> {
    let format = Format::default()
        .with_header(true)
        .with_delimiter(options.delimiter)
        .with_quote(options.quote);
    let read = tokio::task::spawn_blocking(move || format.infer_schema(file, Some(0)));
    let (inferred, _) = read
        .await
        .map_err(|error| Error::internal("reading a file was interrupted").with_source(error))?
        .map_err(|error| malformed(path, error))?;
    let names: Vec<String> = inferred.fields().iter().map(|field| field.name().clone()).collect();
    if names.is_empty() {
        return Err(Error::new(
            Kind::BadCopyFormat,
            format!("file \"{}\" has no header line", path.display()),
        ));
    }
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(twice) => Err(Error::new(
            Kind::DuplicateColumn,
            format!("the header of file \"{}\" names column \"{twice}\" twice", path.display()),
        )),
        None => Ok(names),
    }
}

fn check_header(header: &[String], declared: &SchemaRef, path: &Path) -> Result<()> {
    let expected: Vec<&String> = declared.fields().iter().map(|field| field.name()).collect();
    if header.iter().eq(expected.iter().copied()) {
        return Ok(());
    }
    let expected = expected.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    Err(Error::new(
        Kind::BadCopyFormat,
        format!("the header of file \"{}\" is not the declared one", path.display()),
    )
    .with_detail(format!("Declared are: {expected}. Found are: {}.", header.join(", "))))
}

/// Says where, not what: the reader's own words quote the row, which may be a person's.
fn malformed(path: &Path, error: ArrowError) -> Error {
    let text = error.to_string();
    let path = path.display();
    if text.contains("invalid UTF-8") {
        return Error::new(
            Kind::CharacterNotInRepertoire,
            format!("file \"{path}\" is not UTF-8{}", line_of(&text)),
        )
        .with_source(error);
    }
    if text.contains("incorrect number of fields") {
        return Error::new(
            Kind::BadCopyFormat,
            format!("file \"{path}\" has a record of another length{}", line_of(&text)),
        )
        .with_source(error);
    }
    Error::new(
        Kind::BadCopyFormat,
        format!("file \"{path}\" does not match its declared columns{}", line_of(&text)),
    )
    .with_source(error)
}

/// The record's number, which the reader counts from the header as 1.
fn line_of(text: &str) -> String {
    let number = text
        .rsplit_once(" line ")
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    match number {
        Some(number) if !number.is_empty() => format!(" at record {number}"),
        _ => String::new(),
    }
}
