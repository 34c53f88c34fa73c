//! The formats of `COPY`: text, CSV and binary, in both directions.
//!
//! What it guarantees: PostgreSQL 15's rules for both formats, byte for byte: escapes, quotes,
//! NULL against the empty string, embedded newlines, all newline styles, the end marker. Data may
//! come cut at any byte. Each error of the data names its line and column in the detail, in the
//! words of PostgreSQL's context (`COPY, line 3, column ward: "x"`); long values are not quoted.
//! What it does not: only UTF-8 is read and written.
//! On failure: a decoder or encoder that failed is not to be used further. Memory is bounded: a
//! batch is given out after 8192 rows or 8 MiB, and a line over 256 MiB is refused (`54000`).
//!
//! # Why a splitter of our own
//!
//! The csv crates cannot tell `""` from nothing, and in `COPY` the one is an empty string and the
//! other NULL.

mod binary;
mod decode;
mod encode;
mod field;
mod line;
mod rows;

#[cfg(test)]
mod tests;

pub use decode::CopyDecoder;
pub use encode::CopyEncoder;

use arrow::datatypes::SchemaRef;
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::copy::{CopyFormat, CopyOptions};

/// What begins binary data: the signature, no flags, no header extension.
const BINARY_SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Refuses what would make the data ambiguous.
///
/// # Errors
/// `22023`.
fn check_options(schema: &SchemaRef, options: &CopyOptions) -> Result<()> {
    let refuse = |message: &str| Err(Error::new(Kind::InvalidParameterValue, message));
    if options.format == CopyFormat::Binary {
        return Ok(());
    }
    let is_newline = |byte: u8| matches!(byte, b'\n' | b'\r');
    if is_newline(options.delimiter) || options.null.bytes().any(is_newline) {
        return refuse("COPY delimiter and null cannot contain newline or carriage return");
    }
    if !options.delimiter.is_ascii() || !options.quote.is_ascii() || !options.escape.is_ascii() {
        return refuse("COPY delimiter, quote and escape must be single one-byte characters");
    }
    if options.null.bytes().any(|byte| byte == options.delimiter) {
        return refuse("COPY delimiter must not appear in the NULL specification");
    }
    if options.format == CopyFormat::Csv {
        if options.delimiter == options.quote {
            return refuse("COPY delimiter and quote must be different");
        }
        if is_newline(options.quote) || options.null.bytes().any(|byte| byte == options.quote) {
            return refuse("CSV quote character must not appear in the NULL specification");
        }
    } else if options.delimiter == b'.'
        || options.delimiter == b'\\'
        || options.delimiter.is_ascii_lowercase()
        || options.delimiter.is_ascii_digit()
    {
        let shown = char::from(options.delimiter);
        return refuse(&format!("COPY delimiter cannot be \"{shown}\""));
    }
    let lists = [&options.force_quote, &options.force_not_null, &options.force_null];
    if lists.into_iter().flatten().any(|position| *position >= schema.fields().len()) {
        return refuse("a FORCE option names a column that is not copied");
    }
    Ok(())
}

fn bad_format(message: impl Into<String>) -> Error {
    Error::new(Kind::BadCopyFormat, message)
}

/// Says where in the data an error lies, after what its detail says already.
fn in_context(error: Error, line: u64, column: Option<&str>, value: Option<&str>) -> Error {
    const LIMIT_BYTES: usize = 100;
    let mut place = format!("COPY, line {line}");
    if let Some(column) = column {
        place.push_str(&format!(", column {column}"));
    }
    match value {
        Some(value) if value.len() <= LIMIT_BYTES => place.push_str(&format!(": \"{value}\"")),
        _ => {}
    }
    let detail = match error.detail() {
        Some(detail) => format!("{detail} {place}"),
        None => place,
    };
    error.with_detail(detail)
}
