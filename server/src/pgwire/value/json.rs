//! Structs and maps as JSON, spelled as PostgreSQL's `row_to_json` spells a row.
//!
//! What it guarantees: numbers are bare and exact, `NaN` and infinities are strings, times are ISO
//! 8601, a `json` value inside is embedded as it is. Field names are written as often as the
//! struct has them.

use bytes::{BufMut, BytesMut};
use kho_catalog::error::Result;
use kho_sql::times::spelled::Style;

use super::column::{Column, Spelling, Values, at};
use super::wire::Wire;

impl Column<'_> {
    /// Appends a row, NULL included, as a JSON value.
    pub(super) fn write_json(
        &self,
        row: usize,
        spelling: &Spelling,
        out: &mut BytesMut,
    ) -> Result<()> {
        if self.is_null(row) {
            out.put_slice(b"null");
            return Ok(());
        }
        match &self.values {
            Values::Boolean(array) => {
                out.put_slice(if array.value(row) { b"true" } else { b"false" });
            }
            Values::Struct(children) => {
                out.put_u8(b'{');
                for (index, (name, child)) in children.iter().enumerate() {
                    if index > 0 {
                        out.put_u8(b',');
                    }
                    write_string(name, out);
                    out.put_u8(b':');
                    child.write_json(row, spelling, out)?;
                }
                out.put_u8(b'}');
            }
            Values::Map(spans, keys, values) => {
                out.put_u8(b'{');
                for (count, index) in spans.of_row(row).enumerate() {
                    if count > 0 {
                        out.put_u8(b',');
                    }
                    keys.write_json_string(index, spelling, out)?;
                    out.put_u8(b':');
                    values.write_json(index, spelling, out)?;
                }
                out.put_u8(b'}');
            }
            Values::List(spans, child) => {
                out.put_u8(b'[');
                for (count, index) in spans.of_row(row).enumerate() {
                    if count > 0 {
                        out.put_u8(b',');
                    }
                    child.write_json(index, spelling, out)?;
                }
                out.put_u8(b']');
            }
            Values::Indexed(index, values) if self.wire != Wire::Json => {
                values.write_json(at(index, row), spelling, out)?;
            }
            _ => self.write_json_scalar(row, spelling, out)?,
        }
        Ok(())
    }

    fn write_json_scalar(&self, row: usize, spelling: &Spelling, out: &mut BytesMut) -> Result<()> {
        match self.wire {
            Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid | Wire::Numeric(_) | Wire::Json => {
                self.write_text(row, spelling, out)
            }
            Wire::Float4 | Wire::Float8 => {
                let start = out.len();
                self.write_text(row, spelling, out)?;
                let is_number = out.last().is_some_and(u8::is_ascii_digit);
                if !is_number {
                    requote(start, out);
                }
                Ok(())
            }
            Wire::Timestamp | Wire::TimestampTz => {
                out.put_u8(b'"');
                self.write_instant(row, Style::Xsd, spelling, out)?;
                out.put_u8(b'"');
                Ok(())
            }
            _ => self.write_json_string(row, spelling, out),
        }
    }

    /// The row's text as a JSON string, as a key of a map has to be.
    fn write_json_string(&self, row: usize, spelling: &Spelling, out: &mut BytesMut) -> Result<()> {
        match self.as_text(row) {
            Some(text) => write_string(text, out),
            None => {
                let start = out.len();
                self.write_text(row, spelling, out)?;
                requote(start, out);
            }
        }
        Ok(())
    }
}

/// Makes what was written since `start` a JSON string.
fn requote(start: usize, out: &mut BytesMut) {
    let text = String::from_utf8_lossy(out.get(start..).unwrap_or_default()).into_owned();
    out.truncate(start);
    write_string(&text, out);
}

/// PostgreSQL's `escape_json`: short escapes, the other control characters by number.
fn write_string(text: &str, out: &mut BytesMut) {
    out.put_u8(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            8 => out.put_slice(b"\\b"),
            12 => out.put_slice(b"\\f"),
            0..0x20 => out.put_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.put_u8(byte),
        }
    }
    out.put_u8(b'"');
}
