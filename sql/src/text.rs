//! Values as PostgreSQL spells them, where the engine does otherwise: floats, and arrays of anything.
//!
//! What it is: what casts to text give; the PostgreSQL wire writes the same by the same functions.
//! What it guarantees: `1e+20` and `-Infinity`; `{1,NULL,"a b"}`, with what is in arrays spelled as it is
//! there: `t`, `"2026-01-01 00:00:00"`.
//! What it does not: a cast knows of no `extra_float_digits`.
//! On failure: `0A000` for an array of what has no text.

pub mod float;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{ArrowNativeType, DataType, Float32Type, Float64Type};
use bytes::{BufMut, BytesMut};
use kho_catalog::error::{Error, Result};

use crate::errors::from_arrow;
use crate::input::zone::Zone;
use crate::times::spelled::Style;
use crate::times::{is_spelled, text_of};
use float::{write_float4, write_float8};

/// As many digits as it takes to read the same float back.
const EXACT: i32 = 1;

/// Whether the engine's text of a value of this type is another one, but for times and bytes.
pub(crate) fn differs(of: &DataType) -> bool {
    of.is_floating() || is_list(of)
}

fn is_list(of: &DataType) -> bool {
    matches!(of, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _))
}

/// The texts of a column.
///
/// # Errors
/// `0A000` for values that have none.
pub(crate) fn of_column(column: &ArrayRef, zone: Zone, style: Style) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Float16 => of_column(&cast(column, &DataType::Float32)?, zone, style),
        DataType::Float32 => {
            let floats = column.as_primitive::<Float32Type>().iter();
            spelled(floats, |value, out| write_float4(value, EXACT, out))
        }
        DataType::Float64 => {
            let floats = column.as_primitive::<Float64Type>().iter();
            spelled(floats, |value, out| write_float8(value, EXACT, out))
        }
        of if is_list(of) => of_lists(column, zone),
        of if is_spelled(of) => text_of(column, zone, style),
        _ => cast(column, &DataType::Utf8),
    }
}

/// The texts of values within an array.
fn of_elements(column: &ArrayRef, zone: Zone) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Boolean => spelled(column.as_boolean().iter(), |value, out| {
            out.put_u8(if value { b't' } else { b'f' });
        }),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let plain = cast(column, &DataType::Binary)?;
            spelled(plain.as_binary::<i32>().iter(), write_bytea)
        }
        _ => of_column(column, zone, Style::Postgres),
    }
}

fn of_lists(column: &ArrayRef, zone: Zone) -> Result<ArrayRef> {
    let element = match column.data_type() {
        DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _) => of,
        _ => return Err(Error::internal("an array is none")),
    };
    let is_nested = is_list(element.data_type());
    let lists = cast(column, &DataType::List(Arc::clone(element)))?;
    let lists = lists.as_list::<i32>();
    // Of a slice the values are more than those of its rows.
    let (first, last) = match (lists.offsets().first(), lists.offsets().last()) {
        (Some(first), Some(last)) => (first.as_usize(), last.as_usize()),
        _ => (0, 0),
    };
    let texts = of_elements(&lists.values().slice(first, last.saturating_sub(first)), zone)?;
    let texts: &StringArray = texts.as_string();
    let rows = lists.offsets().windows(2).enumerate().map(|(row, bounds)| {
        let [from, to] = bounds else { return None };
        (!lists.is_null(row)).then(|| from.as_usize() - first..to.as_usize() - first)
    });
    spelled(rows, |places, out| {
        out.put_u8(b'{');
        for (count, place) in places.enumerate() {
            if count > 0 {
                out.put_u8(b',');
            }
            if texts.is_null(place) {
                out.put_slice(b"NULL");
                continue;
            }
            let start = out.len();
            out.put_slice(texts.value(place).as_bytes());
            if !is_nested {
                quote_element(start, out);
            }
        }
        out.put_u8(b'}');
    })
}

fn spelled<T>(
    values: impl Iterator<Item = Option<T>>,
    write: impl Fn(T, &mut BytesMut),
) -> Result<ArrayRef> {
    let (mut texts, mut scratch) = (StringBuilder::new(), BytesMut::new());
    for value in values {
        let Some(value) = value else {
            texts.append_null();
            continue;
        };
        scratch.clear();
        write(value, &mut scratch);
        let text = std::str::from_utf8(&scratch);
        texts.append_value(text.map_err(|_| Error::internal("a value is spelled in no letters"))?);
    }
    Ok(Arc::new(texts.finish()))
}

fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, to, &options).map_err(|error| from_arrow(&error))
}

/// `\x` and two digits for each byte.
pub fn write_bytea(bytes: &[u8], out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or_default();
    out.reserve(2 + 2 * bytes.len());
    out.put_slice(b"\\x");
    for byte in bytes {
        out.put_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

/// Puts quotes around an array's element that begins at `start`, where its text needs them.
pub fn quote_element(start: usize, out: &mut BytesMut) {
    let text = out.get(start..).unwrap_or_default();
    let is_special = |byte: &u8| {
        matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\' | b' ' | b'\t' | b'\n' | b'\r' | 11 | 12)
    };
    if !text.is_empty() && !text.eq_ignore_ascii_case(b"NULL") && !text.iter().any(is_special) {
        return;
    }
    if text.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
        let text = text.to_vec();
        out.truncate(start);
        out.put_u8(b'"');
        for byte in text {
            if matches!(byte, b'"' | b'\\') {
                out.put_u8(b'\\');
            }
            out.put_u8(byte);
        }
    } else {
        out.put_u8(b'"');
        if let Some(text) = out.get_mut(start..) {
            text.rotate_right(1);
        }
    }
    out.put_u8(b'"');
}
