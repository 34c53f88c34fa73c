//! Values in PostgreSQL's binary form, as clients send them.
//!
//! What it guarantees: every byte is accounted for: too few and too many are `22P03`.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;

use super::array::ListBuilder;
use super::calendar::{EPOCH_SHIFT_DAYS, EPOCH_SHIFT_MICROS, out_of_range};
use super::oid::{is_number, type_of_oid};
use super::{ColumnBuilder, Number, TextRule, Values, append_text, bytes::uuid_text, checked_utf8};

pub(super) fn append(builder: &mut ColumnBuilder, bytes: &[u8]) -> Result<()> {
    match &mut builder.values {
        Values::Boolean(builder) => {
            let [value] = exactly(bytes, "boolean")?;
            builder.append_value(value != 0);
        }
        Values::SmallInt(builder) => {
            builder.append_value(i16::from_be_bytes(exactly(bytes, "smallint")?));
        }
        Values::Integer(builder) => {
            builder.append_value(i32::from_be_bytes(exactly(bytes, "integer")?));
        }
        Values::BigInt(builder) => {
            builder.append_value(i64::from_be_bytes(exactly(bytes, "bigint")?));
        }
        Values::Real(builder) => {
            builder.append_value(f32::from_be_bytes(exactly(bytes, "real")?));
        }
        Values::Double(builder) => {
            builder.append_value(f64::from_be_bytes(exactly(bytes, "double precision")?));
        }
        Values::Numeric(builder, precision, scale) => {
            let text = numeric_text(bytes)?;
            builder.append_value(Number::parse(&text)?.to_decimal(*precision, *scale)?);
        }
        Values::Text(builder, TextRule::Uuid) => {
            builder.append_value(uuid_text(&exactly(bytes, "uuid")?));
        }
        Values::Text(builder, TextRule::Json) => {
            // The binary form of jsonb begins with its version.
            let text = bytes.strip_prefix(&[1]).unwrap_or(bytes);
            append_text(checked_utf8(text)?, TextRule::Json, builder)?;
        }
        Values::Text(builder, rule) => append_text(checked_utf8(bytes)?, *rule, builder)?,
        Values::Bytea(builder) => builder.append_value(bytes),
        Values::Date(builder) => {
            let days = i32::from_be_bytes(exactly(bytes, "date")?);
            check_finite(days == i32::MAX || days == i32::MIN, "date")?;
            let days = i32::try_from(i64::from(days) + EPOCH_SHIFT_DAYS);
            builder.append_value(days.map_err(|_| out_of_range("date"))?);
        }
        Values::Timestamp(builder) | Values::TimestampTz(builder) => {
            let micros = i64::from_be_bytes(exactly(bytes, "timestamp")?);
            check_finite(micros == i64::MAX || micros == i64::MIN, "timestamp")?;
            let micros = micros.checked_add(EPOCH_SHIFT_MICROS);
            builder.append_value(micros.ok_or_else(|| out_of_range("timestamp"))?);
        }
        Values::List(builder) => append_array(builder, bytes)?,
        Values::Object(builder) => builder.append_document(checked_utf8(bytes)?)?,
    }
    Ok(())
}

/// A binary numeric as text; every digit is kept.
pub fn numeric_text(bytes: &[u8]) -> Result<String> {
    let mut rest = Rest { bytes, type_name: "numeric" };
    let groups = rest.i16()?;
    let weight = rest.i16()?;
    let sign = rest.u16()?;
    let display_scale = rest.u16()?;
    let mut text = String::with_capacity(usize::from(display_scale) + 16);
    match sign {
        0 => {}
        0x4000 => text.push('-'),
        0xc000 => return Ok("NaN".to_owned()),
        0xd000 => return Ok("Infinity".to_owned()),
        0xf000 => return Ok("-Infinity".to_owned()),
        _ => return Err(malformed("numeric")),
    }
    let mut groups_left = usize::try_from(groups).map_err(|_| malformed("numeric"))?;
    if rest.bytes.len() != groups_left * 2 || display_scale > 0x3fff {
        return Err(malformed("numeric"));
    }
    let mut take_group = |at: i32| -> Result<u16> {
        if at > i32::from(weight) || groups_left == 0 {
            return Ok(0);
        }
        groups_left -= 1;
        rest.u16().and_then(
            |group| {
                if group > 9_999 { Err(malformed("numeric")) } else { Ok(group) }
            },
        )
    };
    text.push('0');
    for at in (0..=i32::from(weight)).rev() {
        text.push_str(&format!("{:04}", take_group(at)?));
    }
    text.push('.');
    let start = text.len();
    // Groups between the point and the first that was sent are zeros.
    let mut at = -1;
    while text.len() - start < usize::from(display_scale) {
        text.push_str(&format!("{:04}", take_group(at)?));
        at -= 1;
    }
    text.truncate(start + usize::from(display_scale));
    Ok(text)
}

fn append_array(builder: &mut ListBuilder, bytes: &[u8]) -> Result<()> {
    let mut rest = Rest { bytes, type_name: "array" };
    let depth = usize::try_from(rest.i32()?).map_err(|_| malformed("array"))?;
    let flags = rest.i32()?;
    let oid = rest.u32()?;
    if depth > 6 || !(0..=1).contains(&flags) {
        return Err(malformed("array"));
    }
    let mut lengths = Vec::with_capacity(depth);
    for _ in 0..depth {
        lengths.push(usize::try_from(rest.i32()?).map_err(|_| malformed("array"))?);
        if rest.i32()? != 1 {
            return Err(Error::unsupported("arrays whose first index is not 1 are not supported"));
        }
    }
    check_element(builder, oid)?;
    let element = if is_number(oid) { append_number } else { append };
    match lengths.as_slice() {
        [] => builder.close()?,
        lengths => read_dimension(builder, lengths, element, &mut rest)?,
    }
    if rest.bytes.is_empty() { Ok(()) } else { Err(malformed("array")) }
}

/// An `oid` and its like.
fn append_number(builder: &mut ColumnBuilder, bytes: &[u8]) -> Result<()> {
    let number = u32::from_be_bytes(exactly(bytes, "oid")?);
    append(builder, &i64::from(number).to_be_bytes())
}

fn read_dimension(
    builder: &mut ListBuilder,
    lengths: &[usize],
    element: fn(&mut ColumnBuilder, &[u8]) -> Result<()>,
    rest: &mut Rest,
) -> Result<()> {
    let Some((length, inner_lengths)) = lengths.split_first() else {
        return Err(malformed("array"));
    };
    // An element takes at least the four bytes of its length.
    if inner_lengths.is_empty() && *length > rest.bytes.len() / 4 {
        return Err(malformed("array"));
    }
    for _ in 0..*length {
        builder.append_element(|child| match (&mut child.values, inner_lengths) {
            (Values::List(inner), [_, ..]) => read_dimension(inner, inner_lengths, element, rest),
            (Values::List(_), []) | (_, [_, ..]) => Err(Error::new(
                Kind::DatatypeMismatch,
                "the array has another number of dimensions than its type",
            )),
            (_, []) => match usize::try_from(rest.i32()?) {
                Ok(length) => element(child, rest.take(length)?),
                Err(_) => child.append(None),
            },
        })?;
    }
    builder.close()
}

fn check_element(builder: &mut ListBuilder, oid: u32) -> Result<()> {
    if let Some(inner) = builder.inner() {
        return check_element(inner, oid);
    }
    let carrier = |of: Option<Type>| match of {
        Some(Type::Varchar(_)) => Some(Type::Text),
        Some(Type::Numeric(_, _)) => Some(Type::Numeric(38, 10)),
        Some(Type::Struct(_)) => Some(Type::Json),
        other => other,
    };
    if carrier(type_of_oid(oid)) == carrier(Type::from_field(builder.element())) {
        return Ok(());
    }
    Err(Error::new(Kind::DatatypeMismatch, format!("wrong element type: {oid}")))
}

fn check_finite(is_infinite: bool, what: &str) -> Result<()> {
    if is_infinite {
        return Err(Error::unsupported(format!("an infinite {what} is not supported")));
    }
    Ok(())
}

fn exactly<const N: usize>(bytes: &[u8], type_name: &str) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| malformed(type_name))
}

fn malformed(type_name: &str) -> Error {
    Error::new(
        Kind::InvalidBinaryRepresentation,
        format!("incorrect binary data format for type {type_name}"),
    )
}

/// What is left to read of a value.
struct Rest<'a> {
    bytes: &'a [u8],
    type_name: &'static str,
}

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, after) =
            self.bytes.split_at_checked(length).ok_or_else(|| malformed(self.type_name))?;
        self.bytes = after;
        Ok(taken)
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(exactly(self.take(2)?, self.type_name)?))
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(exactly(self.take(2)?, self.type_name)?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(exactly(self.take(4)?, self.type_name)?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(exactly(self.take(4)?, self.type_name)?))
    }
}
