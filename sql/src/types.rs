//! SQL's data types as users write them, to the types that Kho stores.
//!
//! What it guarantees: a type is stored as declared or refused; no length, precision or modifier
//! is accepted and forgotten.
//! On failure: `0A000` with a hint for a type PostgreSQL has and Kho has not, `42704` for one that
//! nobody knows, `22023` for a modifier out of range.

#[cfg(test)]
mod tests;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;
use sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, ObjectName, StructField,
    TimezoneInfo,
};

use crate::command::name;

/// PostgreSQL's limit for `varchar(n)`.
const VARCHAR_MAX: u64 = 10_485_760;
/// What fits into 128 bits.
const NUMERIC_MAX: u64 = 38;
/// PostgreSQL's own limit, beyond which the declaration itself is wrong.
const NUMERIC_MAX_POSTGRESQL: u64 = 1000;
const MICROSECONDS: u64 = 6;

/// The type that a name stands for, as `format_type` of PostgreSQL spells it.
///
/// # Errors
/// `0A000` for a type that Kho's tables cannot have, `42704` for one that nobody knows.
pub fn named(name: &str) -> Result<Type> {
    let parsed = sqlparser::parser::Parser::new(&crate::parse::DIALECT)
        .try_with_sql(name)
        .and_then(|mut parser| {
            let declared = parser.parse_data_type()?;
            parser.expect_token(&sqlparser::tokenizer::Token::EOF)?;
            Ok(declared)
        });
    from_sql(&parsed.map_err(|_| unknown(name))?)
}

/// The type that `declared` names.
pub(crate) fn from_sql(declared: &DataType) -> Result<Type> {
    Ok(match declared {
        DataType::Bool | DataType::Boolean => Type::Boolean,
        DataType::SmallInt(None) | DataType::Int2(None) => Type::SmallInt,
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => Type::Integer,
        DataType::BigInt(None) | DataType::Int8(None) => Type::BigInt,
        DataType::Real | DataType::Float4 => Type::Real,
        DataType::DoublePrecision | DataType::Float8 => Type::Double,
        DataType::Float(digits) => float(digits)?,
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => numeric(info)?,
        DataType::Text => Type::Text,
        DataType::Varchar(length)
        | DataType::CharacterVarying(length)
        | DataType::CharVarying(length) => varchar(length.as_ref())?,
        DataType::Bytea => Type::Bytea,
        DataType::Date => Type::Date,
        DataType::Timestamp(precision, zone) => timestamp(*precision, zone)?,
        DataType::Uuid => Type::Uuid,
        DataType::JSON => Type::Json,
        DataType::Array(element) => array(element)?,
        DataType::Struct(fields, _) => structure(fields)?,
        DataType::Custom(name, modifiers) => custom(name, modifiers)?,
        other => return Err(refused(other)),
    })
}

fn float(digits: &ExactNumberInfo) -> Result<Type> {
    match digits {
        ExactNumberInfo::None => Ok(Type::Double),
        ExactNumberInfo::Precision(1..=24) => Ok(Type::Real),
        ExactNumberInfo::Precision(25..=53) => Ok(Type::Double),
        _ => Err(invalid("precision for type float must be between 1 and 53 bits")),
    }
}

fn numeric(info: &ExactNumberInfo) -> Result<Type> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => {
            return Err(Error::unsupported("numeric without a precision is not supported")
                .with_hint("Write numeric(precision, scale), with at most 38 digits."));
        }
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    if precision == 0 || precision > NUMERIC_MAX_POSTGRESQL {
        let message = format!("NUMERIC precision {precision} must be between 1 and 1000");
        return Err(invalid(&message));
    }
    if precision > NUMERIC_MAX {
        return Err(Error::unsupported(format!("numeric({precision},{scale}) is not supported"))
            .with_hint("A numeric has at most 38 digits."));
    }
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if scale <= precision => Ok(Type::Numeric(precision, scale)),
        _ => Err(Error::unsupported(format!("numeric({precision},{scale}) is not supported"))
            .with_hint("The scale is between 0 and the precision.")),
    }
}

fn varchar(length: Option<&CharacterLength>) -> Result<Type> {
    match length {
        None => Ok(Type::Text),
        Some(CharacterLength::IntegerLength { length: 0, .. }) => {
            Err(invalid("length for type varchar must be at least 1"))
        }
        Some(CharacterLength::IntegerLength { length, unit: None }) if *length <= VARCHAR_MAX => {
            u32::try_from(*length).map(Type::Varchar).map_err(|_| too_long())
        }
        Some(CharacterLength::IntegerLength { unit: None, .. }) => Err(too_long()),
        Some(other) => Err(Error::unsupported(format!("varchar({other}) is not supported"))),
    }
}

fn too_long() -> Error {
    invalid("length for type varchar cannot exceed 10485760")
}

fn timestamp(precision: Option<u64>, zone: &TimezoneInfo) -> Result<Type> {
    if precision.is_some_and(|digits| digits != MICROSECONDS) {
        return Err(Error::unsupported("timestamps are kept in microseconds")
            .with_hint("Leave the precision out, and round with date_trunc()."));
    }
    Ok(match zone {
        TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => Type::Timestamp,
        TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => Type::TimestampTz,
    })
}

fn array(element: &ArrayElemTypeDef) -> Result<Type> {
    let element = match element {
        ArrayElemTypeDef::SquareBracket(element, None)
        | ArrayElemTypeDef::AngleBracket(element) => from_sql(element)?,
        ArrayElemTypeDef::SquareBracket(_, Some(_)) => {
            return Err(Error::unsupported("arrays of a fixed length are not supported")
                .with_hint("Write the type without a length, such as int[]."));
        }
        ArrayElemTypeDef::None | ArrayElemTypeDef::Parenthesis(_) => {
            return Err(Error::new(Kind::Syntax, "an array needs the type of its elements")
                .with_hint("Write it as int[]."));
        }
    };
    match element {
        Type::Array(_) => Err(Error::unsupported("arrays of arrays are not supported")),
        element => Ok(Type::Array(Box::new(element))),
    }
}

fn structure(fields: &[StructField]) -> Result<Type> {
    let mut named: Vec<(String, Type)> = Vec::with_capacity(fields.len());
    for field in fields {
        let (Some(ident), None) = (&field.field_name, &field.options) else {
            return Err(Error::new(Kind::Syntax, "a field of a struct needs a name and a type"));
        };
        let field_name = name::fold(ident);
        if named.iter().any(|(taken, _)| taken.eq_ignore_ascii_case(&field_name)) {
            let message = format!("field \"{field_name}\" specified more than once");
            return Err(Error::new(Kind::DuplicateColumn, message));
        }
        named.push((field_name, from_sql(&field.field_type)?));
    }
    if named.is_empty() {
        return Err(Error::new(Kind::Syntax, "a struct needs a field"));
    }
    Ok(Type::Struct(named))
}

/// Names that the parser has no keyword for; with their schema, as `pg_catalog.int4`.
fn custom(written: &ObjectName, modifiers: &[String]) -> Result<Type> {
    let parts: Vec<String> =
        written.0.iter().filter_map(|part| part.as_ident()).map(name::fold).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let ([last] | ["pg_catalog", last]) = parts.as_slice() else {
        return Err(unknown(&written.to_string()));
    };
    if let Some(error) = known_elsewhere(last) {
        return Err(error);
    }
    if !modifiers.is_empty() {
        return Err(unknown(last));
    }
    Ok(match *last {
        "bool" | "boolean" => Type::Boolean,
        "int2" | "smallint" => Type::SmallInt,
        "int4" | "int" | "integer" => Type::Integer,
        "int8" | "bigint" => Type::BigInt,
        "float4" | "real" => Type::Real,
        "float8" => Type::Double,
        "text" | "varchar" => Type::Text,
        "bytea" => Type::Bytea,
        "date" => Type::Date,
        "timestamp" => Type::Timestamp,
        "timestamptz" => Type::TimestampTz,
        "uuid" => Type::Uuid,
        "json" => Type::Json,
        "numeric" => return numeric(&ExactNumberInfo::None),
        _ => return Err(unknown(last)),
    })
}

/// What PostgreSQL has and Kho has not, with what to use instead.
fn known_elsewhere(name: &str) -> Option<Error> {
    let hint = match name {
        "serial" | "serial4" | "bigserial" | "serial8" | "smallserial" | "serial2" => {
            "There are no sequences: use an integer type and give the values."
        }
        "money" => "Use numeric(precision, scale).",
        "name" | "citext" | "bpchar" | "xml" | "inet" | "cidr" | "macaddr" => "Use text.",
        "interval" | "time" | "timetz" | "hstore" | "oid" | "regclass" | "bit" | "varbit" => {
            "Use text, or a number."
        }
        _ => return None,
    };
    Some(Error::unsupported(format!("type {name} is not supported")).with_hint(hint))
}

fn refused(declared: &DataType) -> Error {
    let hint = match declared {
        DataType::JSONB => "Use json: the text is kept as it was written.",
        DataType::Char(_) | DataType::Character(_) => "Use varchar(n) or text.",
        DataType::Interval { .. } | DataType::Time(..) => "Use text, or a number of seconds.",
        DataType::Bit(_)
        | DataType::BitVarying(_)
        | DataType::VarBit(_)
        | DataType::Regclass
        | DataType::TsVector
        | DataType::TsQuery
        | DataType::GeometricType(_) => "Use text.",
        _ => return unknown(&declared.to_string().to_lowercase()),
    };
    let name = declared.to_string().to_lowercase();
    Error::unsupported(format!("type {name} is not supported")).with_hint(hint)
}

fn unknown(name: &str) -> Error {
    Error::new(Kind::UndefinedObject, format!("type \"{name}\" does not exist")).with_hint(
        "Types are boolean, smallint, integer, bigint, real, double precision, numeric(p,s), text, \
         varchar(n), bytea, date, timestamp, timestamptz, uuid, json, and arrays of them.",
    )
}

fn invalid(message: &str) -> Error {
    Error::new(Kind::InvalidParameterValue, message)
}
