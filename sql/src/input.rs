//! Columns from values as PostgreSQL's clients write them, one value at a time.
//!
//! What it is: [`ColumnBuilder`] takes the text (or binary form) of one value after the other and
//! gives an Arrow array of its field's type. `COPY … FROM` and parameters are read with it.
//! What it guarantees: PostgreSQL's input syntax and messages; text passes byte for byte, `''` is
//! not NULL, leading zeros stay; a numeric is rounded half away from zero to its scale and refused
//! (`22003`) beyond its precision; a `uuid` is stored in lower case; a `json` text is checked and
//! kept as it is.
//! What it does not: `NOT NULL` is the write path's. Dates are read as ISO writes them (and as
//! `YYYY/MM/DD` and `YYYYMMDD`) alone: day and month in other orders are refused, never guessed.
//! `now`, `today` and `infinity` are refused (`0A000`). As in PostgreSQL, an offset in a
//! `timestamp` without time zone is passed over. Array literals with bounds are refused.
//! On failure: the builder is not to be used further.

mod array;
mod bytes;
pub mod calendar;
mod datetime;
mod function;
pub(crate) mod interval;
mod number;
mod object;
mod oid;
mod receive;
mod resolve;
pub mod zone;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;

pub use bytes::parse_uuid;
pub use number::Number;
pub use oid::{array_oid, is_number, type_of_oid};
pub use receive::numeric_text;

pub(crate) use function::{check_documents, is_text, read_column};
pub(crate) use resolve::{compares, exact_number, install, zone_of};

use crate::session::ValueFormat;
use array::ListBuilder;
use object::ObjectBuilder;
use zone::Zone;

/// Collects the values of one column.
pub struct ColumnBuilder {
    field: FieldRef,
    zone: Zone,
    values: Values,
    scratch: Vec<u8>,
}

enum Values {
    Boolean(BooleanBuilder),
    SmallInt(Int16Builder),
    Integer(Int32Builder),
    BigInt(Int64Builder),
    Real(Float32Builder),
    Double(Float64Builder),
    Numeric(Decimal128Builder, u8, u8),
    Text(StringBuilder, TextRule),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    TimestampTz(TimestampMicrosecondBuilder),
    List(Box<ListBuilder>),
    Object(Box<ObjectBuilder>),
}

/// What a type that is carried as text demands of it.
#[derive(Clone, Copy)]
enum TextRule {
    Any,
    Varchar(u32),
    Uuid,
    Json,
}

impl ColumnBuilder {
    /// A builder of values of `field`.
    ///
    /// # Errors
    /// `0A000` for a type that cannot be stored (an interval, a map), `22023` for an unknown zone.
    pub fn new(field: &Field, format: &ValueFormat) -> Result<ColumnBuilder> {
        ColumnBuilder::in_zone(field, Zone::of_setting(&format.time_zone)?)
    }

    /// As [`ColumnBuilder::new`], in a zone that has been looked up.
    ///
    /// # Errors
    /// `0A000` for a type that cannot be stored.
    pub fn in_zone(field: &Field, zone: Zone) -> Result<ColumnBuilder> {
        let declared = Type::from_field(field).ok_or_else(|| {
            Error::unsupported(format!("values of type {} cannot be read", field.data_type()))
        })?;
        let values = match &declared {
            Type::Boolean => Values::Boolean(BooleanBuilder::new()),
            Type::SmallInt => Values::SmallInt(Int16Builder::new()),
            Type::Integer => Values::Integer(Int32Builder::new()),
            Type::BigInt => Values::BigInt(Int64Builder::new()),
            Type::Real => Values::Real(Float32Builder::new()),
            Type::Double => Values::Double(Float64Builder::new()),
            Type::Numeric(precision, scale) => {
                let builder = Decimal128Builder::new().with_data_type(declared.to_arrow());
                Values::Numeric(builder, *precision, *scale)
            }
            Type::Text => Values::Text(StringBuilder::new(), TextRule::Any),
            Type::Varchar(length) => Values::Text(StringBuilder::new(), TextRule::Varchar(*length)),
            Type::Uuid => Values::Text(StringBuilder::new(), TextRule::Uuid),
            Type::Json => Values::Text(StringBuilder::new(), TextRule::Json),
            Type::Bytea => Values::Bytea(BinaryBuilder::new()),
            Type::Date => Values::Date(Date32Builder::new()),
            Type::Timestamp => Values::Timestamp(TimestampMicrosecondBuilder::new()),
            Type::TimestampTz => {
                let builder = TimestampMicrosecondBuilder::new();
                Values::TimestampTz(builder.with_data_type(declared.to_arrow()))
            }
            Type::Array(_) => Values::List(Box::new(ListBuilder::new(field, zone)?)),
            Type::Struct(_) => Values::Object(Box::new(ObjectBuilder::new(field, zone)?)),
        };
        Ok(ColumnBuilder { field: Arc::new(field.clone()), zone, values, scratch: Vec::new() })
    }

    /// Appends a value as its text, or NULL.
    ///
    /// # Errors
    /// `22P02`, `22003`, `22007`, `22008`, `22001`, `22021`, `0A000`, with PostgreSQL's messages.
    pub fn append(&mut self, text: Option<&str>) -> Result<()> {
        let Some(text) = text else {
            self.append_null();
            return Ok(());
        };
        match &mut self.values {
            Values::Boolean(builder) => builder.append_value(number::parse_boolean(text)?),
            Values::SmallInt(builder) => {
                builder.append_value(number::parse_integer(text, "smallint")?);
            }
            Values::Integer(builder) => {
                builder.append_value(number::parse_integer(text, "integer")?);
            }
            Values::BigInt(builder) => {
                builder.append_value(number::parse_integer(text, "bigint")?);
            }
            Values::Real(builder) => builder.append_value(number::parse_real(text)?),
            Values::Double(builder) => builder.append_value(number::parse_double(text)?),
            Values::Numeric(builder, precision, scale) => {
                builder.append_value(Number::parse(text)?.to_decimal(*precision, *scale)?);
            }
            Values::Text(builder, rule) => append_text(text, *rule, builder)?,
            Values::Bytea(builder) => {
                self.scratch.clear();
                bytes::parse_bytea(text, &mut self.scratch)?;
                builder.append_value(&self.scratch);
            }
            Values::Date(builder) => builder.append_value(datetime::parse_date(text)?),
            Values::Timestamp(builder) => {
                builder.append_value(datetime::parse_timestamp(text)?);
            }
            Values::TimestampTz(builder) => {
                builder.append_value(datetime::parse_timestamp_tz(text, self.zone)?);
            }
            Values::List(builder) => builder.append_literal(text)?,
            Values::Object(builder) => builder.append_document(text)?,
        }
        Ok(())
    }

    /// Appends a value in PostgreSQL's binary form, or NULL.
    ///
    /// # Errors
    /// `22P03` for bytes that are no value of the type, and as [`ColumnBuilder::append`].
    pub fn append_binary(&mut self, bytes: Option<&[u8]>) -> Result<()> {
        match bytes {
            Some(bytes) => receive::append(self, bytes),
            None => {
                self.append_null();
                Ok(())
            }
        }
    }

    /// The values so far as an array of the field's type; the builder starts again.
    ///
    /// # Errors
    /// `22003` where the field's Arrow type is narrower than the type it stands for.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let array: ArrayRef = match &mut self.values {
            Values::Boolean(builder) => Arc::new(builder.finish()),
            Values::SmallInt(builder) => Arc::new(builder.finish()),
            Values::Integer(builder) => Arc::new(builder.finish()),
            Values::BigInt(builder) => Arc::new(builder.finish()),
            Values::Real(builder) => Arc::new(builder.finish()),
            Values::Double(builder) => Arc::new(builder.finish()),
            Values::Numeric(builder, _, _) => Arc::new(builder.finish()),
            Values::Text(builder, _) => Arc::new(builder.finish()),
            Values::Bytea(builder) => Arc::new(builder.finish()),
            Values::Date(builder) => Arc::new(builder.finish()),
            Values::Timestamp(builder) | Values::TimestampTz(builder) => Arc::new(builder.finish()),
            Values::List(builder) => builder.finish()?,
            Values::Object(builder) => builder.finish()?,
        };
        if array.data_type() == self.field.data_type() {
            return Ok(array);
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&array, self.field.data_type(), &options).map_err(|error| {
            let message = format!("value out of range for column \"{}\"", self.field.name());
            Error::new(Kind::NumericOutOfRange, message).with_source(error)
        })
    }

    fn append_null(&mut self) {
        match &mut self.values {
            Values::Boolean(builder) => builder.append_null(),
            Values::SmallInt(builder) => builder.append_null(),
            Values::Integer(builder) => builder.append_null(),
            Values::BigInt(builder) => builder.append_null(),
            Values::Real(builder) => builder.append_null(),
            Values::Double(builder) => builder.append_null(),
            Values::Numeric(builder, _, _) => builder.append_null(),
            Values::Text(builder, _) => builder.append_null(),
            Values::Bytea(builder) => builder.append_null(),
            Values::Date(builder) => builder.append_null(),
            Values::Timestamp(builder) | Values::TimestampTz(builder) => builder.append_null(),
            Values::List(builder) => builder.append_null(),
            Values::Object(builder) => builder.append_null(),
        }
    }
}

fn append_text(text: &str, rule: TextRule, builder: &mut StringBuilder) -> Result<()> {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(invalid_encoding(&[0]));
    }
    match rule {
        TextRule::Any => builder.append_value(text),
        TextRule::Varchar(length) => builder.append_value(fit_varchar(text, length)?),
        TextRule::Uuid => {
            let uuid = parse_uuid(text).ok_or_else(|| invalid_syntax("uuid", text))?;
            builder.append_value(bytes::uuid_text(&uuid));
        }
        TextRule::Json => {
            object::check_json(text)?;
            builder.append_value(text);
        }
    }
    Ok(())
}

/// PostgreSQL's rule: too long is an error, unless all that is too much is spaces.
fn fit_varchar(text: &str, length: u32) -> Result<&str> {
    let length_characters = usize::try_from(length).unwrap_or(usize::MAX);
    if text.len() <= length_characters {
        return Ok(text);
    }
    let Some((end, _)) = text.char_indices().nth(length_characters) else { return Ok(text) };
    match text.split_at_checked(end) {
        Some((kept, rest)) if rest.bytes().all(|byte| byte == b' ') => Ok(kept),
        _ => Err(Error::new(
            Kind::StringTooLong,
            format!("value too long for type character varying({length})"),
        )),
    }
}

/// The field of an array's elements.
fn element_of(field: &Field) -> Option<&FieldRef> {
    match field.data_type() {
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => Some(element),
        _ => None,
    }
}

/// `22P02`: the text is no value of the type.
fn invalid_syntax(type_name: &str, text: &str) -> Error {
    Error::new(
        Kind::InvalidTextRepresentation,
        format!("invalid input syntax for type {type_name}: \"{}\"", excerpt(text)),
    )
}

/// The beginning of a text, for a message.
pub fn excerpt(text: &str) -> std::borrow::Cow<'_, str> {
    const LIMIT_CHARACTERS: usize = 100;
    match text.char_indices().nth(LIMIT_CHARACTERS) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}

/// `22021`: bytes that are not UTF-8, or a zero byte.
pub fn invalid_encoding(bytes: &[u8]) -> Error {
    let shown: Vec<_> = bytes.iter().take(4).map(|byte| format!("0x{byte:02x}")).collect();
    Error::new(
        Kind::CharacterNotInRepertoire,
        format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
    )
}

/// The bytes as text, if they are valid UTF-8.
pub fn checked_utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let bad = bytes.get(error.valid_up_to()..).unwrap_or_default();
        let length = error.error_len().unwrap_or(bad.len()).max(1);
        invalid_encoding(bad.get(..length).unwrap_or(bad))
    })
}
