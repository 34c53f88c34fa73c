//! PostgreSQL's numbers for types, and which of them an Arrow field is sent as.
//!
//! What it guarantees: every Arrow field has a type on the wire; `type_of_oid` of [`oid_of_type`]
//! is the type again, less lengths and precisions, which an oid does not hold.

use arrow::datatypes::{DataType, Field};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::{TYPE_KEY, Type};
use kho_sql::input::array_oid;

/// How values travel: as text or in PostgreSQL's binary form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatCode {
    Text,
    Binary,
}

impl TryFrom<i16> for FormatCode {
    type Error = Error;

    fn try_from(code: i16) -> Result<Self> {
        match code {
            0 => Ok(FormatCode::Text),
            1 => Ok(FormatCode::Binary),
            _ => Err(Error::new(
                Kind::InvalidParameterValue,
                format!("unsupported format code: {code}"),
            )),
        }
    }
}

impl From<FormatCode> for i16 {
    fn from(code: FormatCode) -> i16 {
        match code {
            FormatCode::Text => 0,
            FormatCode::Binary => 1,
        }
    }
}

/// What `RowDescription` says of a column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PgType {
    pub oid: u32,
    /// Bytes of the binary form; -1 where it varies.
    pub length: i16,
    /// `atttypmod`; -1 where there is none.
    pub modifier: i32,
}

/// The type a field is sent as.
pub fn field_oid(field: &Field) -> PgType {
    let wire = Wire::of_field(field);
    PgType { oid: wire.oid(), length: wire.length(), modifier: wire.modifier() }
}

/// The oid that a type goes by.
pub fn oid_of_type(of: &Type) -> u32 {
    Wire::of_type(of).oid()
}

/// A type as it is on the wire: Kho's types, and those that only expressions give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Boolean,
    Int2,
    Int4,
    Int8,
    /// What no other type is carried as, an unsigned integer.
    Oid,
    Float4,
    Float8,
    /// Precision and scale; `None` where the type modifier cannot say them.
    Numeric(Option<(u8, u8)>),
    Text,
    Varchar(u32),
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    /// Also structs and maps.
    Json,
    Array(Box<Wire>),
    /// Of `Int2` or `Oid`, counted from 0.
    Vector(Box<Wire>),
}

impl Wire {
    pub(super) fn of_field(field: &Field) -> Wire {
        // A declared type counts only over its carrier: nothing else can hold its values.
        if is_text(field.data_type())
            && let Some(declared) = Type::from_field(field)
        {
            return Wire::of_type(&declared);
        }
        Wire::of_system(field).unwrap_or_else(|| Wire::of_arrow(field.data_type()))
    }

    /// The vectors of the system tables.
    fn of_system(field: &Field) -> Option<Wire> {
        let declared = field.metadata().get(TYPE_KEY)?.as_str();
        match (field.data_type(), declared) {
            (DataType::List(_), "int2vector") => Some(Wire::Vector(Box::new(Wire::Int2))),
            (DataType::List(_), "oidvector") => Some(Wire::Vector(Box::new(Wire::Oid))),
            _ => None,
        }
    }

    pub(super) fn of_type(of: &Type) -> Wire {
        match of {
            Type::Boolean => Wire::Boolean,
            Type::SmallInt => Wire::Int2,
            Type::Integer => Wire::Int4,
            Type::BigInt => Wire::Int8,
            Type::Real => Wire::Float4,
            Type::Double => Wire::Float8,
            Type::Numeric(precision, scale) => Wire::Numeric(Some((*precision, *scale))),
            Type::Text => Wire::Text,
            Type::Varchar(length) => Wire::Varchar(*length),
            Type::Bytea => Wire::Bytea,
            Type::Date => Wire::Date,
            Type::Timestamp => Wire::Timestamp,
            Type::TimestampTz => Wire::TimestampTz,
            Type::Uuid => Wire::Uuid,
            Type::Json | Type::Struct(_) => Wire::Json,
            Type::Array(element) => Wire::Array(Box::new(Wire::of_type(element))),
        }
    }

    fn of_arrow(of: &DataType) -> Wire {
        match of {
            DataType::Time32(_) | DataType::Time64(_) => Wire::Time,
            DataType::Interval(_) | DataType::Duration(_) => Wire::Interval,
            DataType::Struct(_) | DataType::Map(_, _) => Wire::Json,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => {
                Wire::Numeric(u8::try_from(*scale).ok().map(|scale| (*precision, scale)))
            }
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::ListView(element)
            | DataType::LargeListView(element)
            | DataType::FixedSizeList(element, _) => Wire::Array(Box::new(Wire::of_field(element))),
            DataType::Dictionary(_, values) => Wire::of_arrow(values),
            DataType::RunEndEncoded(_, values) => Wire::of_field(values),
            DataType::UInt32 => Wire::Oid,
            // What is left without a type (a union) is sent as the text Arrow shows it as.
            other => Type::from_arrow(other).map_or(Wire::Text, |of| Wire::of_type(&of)),
        }
    }

    pub(super) fn oid(&self) -> u32 {
        match self {
            Wire::Boolean => 16,
            Wire::Bytea => 17,
            Wire::Int8 => 20,
            Wire::Int2 => 21,
            Wire::Int4 => 23,
            Wire::Text => 25,
            Wire::Oid => 26,
            Wire::Json => 114,
            Wire::Float4 => 700,
            Wire::Float8 => 701,
            Wire::Varchar(_) => 1043,
            Wire::Date => 1082,
            Wire::Time => 1083,
            Wire::Timestamp => 1114,
            Wire::TimestampTz => 1184,
            Wire::Interval => 1186,
            Wire::Numeric(_) => 1700,
            Wire::Uuid => 2950,
            Wire::Array(element) => {
                // PostgreSQL's array types do not say how many dimensions they have.
                let element = element.scalar().oid();
                array_oid(element).unwrap_or(2277)
            }
            Wire::Vector(element) => match element.as_ref() {
                Wire::Oid => 30,
                _ => 22,
            },
        }
    }

    fn length(&self) -> i16 {
        match self {
            Wire::Boolean => 1,
            Wire::Int2 => 2,
            Wire::Int4 | Wire::Oid | Wire::Float4 | Wire::Date => 4,
            Wire::Int8 | Wire::Float8 | Wire::Time | Wire::Timestamp | Wire::TimestampTz => 8,
            Wire::Interval | Wire::Uuid => 16,
            Wire::Numeric(_)
            | Wire::Text
            | Wire::Varchar(_)
            | Wire::Bytea
            | Wire::Json
            | Wire::Array(_)
            | Wire::Vector(_) => -1,
        }
    }

    fn modifier(&self) -> i32 {
        match self {
            Wire::Numeric(Some((precision, scale))) => {
                ((i32::from(*precision) << 16) | i32::from(*scale)) + 4
            }
            Wire::Varchar(length) => {
                i32::try_from(*length).ok().and_then(|n| n.checked_add(4)).unwrap_or(-1)
            }
            Wire::Array(element) => element.modifier(),
            _ => -1,
        }
    }

    /// The type of the values at the bottom of an array.
    pub(super) fn scalar(&self) -> &Wire {
        match self {
            Wire::Array(element) | Wire::Vector(element) => element.scalar(),
            other => other,
        }
    }
}

fn is_text(of: &DataType) -> bool {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        DataType::RunEndEncoded(_, values) => is_text(values.data_type()),
        _ => false,
    }
}
