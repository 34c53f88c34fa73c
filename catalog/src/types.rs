//! The types of columns: what a user declares, what Arrow holds, what the Delta log says.
//!
//! What it guarantees: [`Type`] to an Arrow field and back is the identity. A type that Delta
//! lacks (`uuid`, `json`, `varchar(n)`) is kept as its Delta carrier with the declared type in the
//! field's metadata under [`TYPE_KEY`], so that other tools read a plain column.
//! What it does not: it enforces no value; the write path does.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use serde::{Deserialize, Serialize};

/// Field metadata key of the stable column id, a decimal number. Grants and policies bind to it.
pub const COLUMN_ID_KEY: &str = "kho.column_id";
/// Field metadata key of the declared type where its carrier does not tell it.
pub const TYPE_KEY: &str = "kho.type";

/// A column's declared type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    Boolean,
    SmallInt,
    Integer,
    BigInt,
    Real,
    Double,
    /// Precision 1 to 38, scale 0 to precision.
    Numeric(u8, u8),
    Text,
    /// At most this many characters.
    Varchar(u32),
    Bytea,
    Date,
    Timestamp,
    TimestampTz,
    Uuid,
    Json,
    Array(Box<Type>),
    Struct(Vec<(String, Type)>),
}

impl Type {
    /// The Arrow type that carries this one in Delta and in plans.
    pub fn to_arrow(&self) -> DataType {
        match self {
            Type::Boolean => DataType::Boolean,
            Type::SmallInt => DataType::Int16,
            Type::Integer => DataType::Int32,
            Type::BigInt => DataType::Int64,
            Type::Real => DataType::Float32,
            Type::Double => DataType::Float64,
            Type::Numeric(precision, scale) => {
                DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(i8::MAX))
            }
            Type::Text | Type::Varchar(_) | Type::Uuid | Type::Json => DataType::Utf8,
            Type::Bytea => DataType::Binary,
            Type::Date => DataType::Date32,
            Type::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Type::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
            Type::Array(element) => DataType::List(Arc::new(element.to_field("element", true))),
            Type::Struct(fields) => DataType::Struct(
                fields.iter().map(|(name, of)| of.to_field(name, true)).collect::<Vec<_>>().into(),
            ),
        }
    }

    /// A field of this type, with the declared type in its metadata where needed.
    pub fn to_field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.to_arrow(), nullable);
        match self {
            Type::Varchar(_) | Type::Uuid | Type::Json => {
                field.with_metadata(HashMap::from([(TYPE_KEY.to_owned(), self.to_string())]))
            }
            _ => field,
        }
    }

    /// The declared type of `field`; `None` where Arrow has a type that Kho has no name for.
    pub fn from_field(field: &Field) -> Option<Type> {
        match field.metadata().get(TYPE_KEY).map(String::as_str) {
            Some("uuid") => return Some(Type::Uuid),
            Some("json") => return Some(Type::Json),
            Some(declared) => {
                let length = declared.strip_prefix("character varying(")?.strip_suffix(')')?;
                return length.parse().ok().map(Type::Varchar);
            }
            None => {}
        }
        Type::from_arrow(field.data_type())
    }

    /// The declared type that an Arrow type stands for when no metadata says more.
    pub fn from_arrow(data_type: &DataType) -> Option<Type> {
        Some(match data_type {
            DataType::Boolean => Type::Boolean,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => Type::SmallInt,
            DataType::Int32 | DataType::UInt16 => Type::Integer,
            DataType::Int64 | DataType::UInt32 => Type::BigInt,
            DataType::UInt64 => Type::Numeric(20, 0),
            DataType::Float16 | DataType::Float32 => Type::Real,
            DataType::Float64 => Type::Double,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale) => {
                Type::Numeric(*precision, u8::try_from(*scale).ok()?)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
                Type::Text
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Type::Bytea,
            DataType::Date32 | DataType::Date64 => Type::Date,
            DataType::Timestamp(_, None) => Type::Timestamp,
            DataType::Timestamp(_, Some(_)) => Type::TimestampTz,
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::ListView(element)
            | DataType::FixedSizeList(element, _) => {
                Type::Array(Box::new(Type::from_field(element)?))
            }
            DataType::Struct(fields) => Type::Struct(struct_fields(fields.iter())?),
            DataType::Dictionary(_, value) => Type::from_arrow(value)?,
            DataType::RunEndEncoded(_, value) => Type::from_field(value)?,
            _ => return None,
        })
    }

    /// Whether equality of values is not equality of keys (`NaN`, `-0.0`).
    pub fn is_float(&self) -> bool {
        matches!(self, Type::Real | Type::Double)
    }
}

fn struct_fields<'a>(fields: impl Iterator<Item = &'a FieldRef>) -> Option<Vec<(String, Type)>> {
    fields.map(|field| Some((field.name().clone(), Type::from_field(field)?))).collect()
}

/// The SQL name, as PostgreSQL's `format_type` spells it.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Boolean => f.write_str("boolean"),
            Type::SmallInt => f.write_str("smallint"),
            Type::Integer => f.write_str("integer"),
            Type::BigInt => f.write_str("bigint"),
            Type::Real => f.write_str("real"),
            Type::Double => f.write_str("double precision"),
            Type::Numeric(precision, scale) => write!(f, "numeric({precision},{scale})"),
            Type::Text => f.write_str("text"),
            Type::Varchar(length) => write!(f, "character varying({length})"),
            Type::Bytea => f.write_str("bytea"),
            Type::Date => f.write_str("date"),
            Type::Timestamp => f.write_str("timestamp without time zone"),
            Type::TimestampTz => f.write_str("timestamp with time zone"),
            Type::Uuid => f.write_str("uuid"),
            Type::Json => f.write_str("json"),
            Type::Array(element) => write!(f, "{element}[]"),
            Type::Struct(fields) => {
                f.write_str("struct<")?;
                for (index, (name, of)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{name} {of}")?;
                }
                f.write_str(">")
            }
        }
    }
}
