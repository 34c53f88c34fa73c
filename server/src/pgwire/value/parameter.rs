//! The parameters of an extended query.
//!
//! What it guarantees: a numeric is never rounded on its way in: where it has more digits than its
//! type says it comes with a precision and scale of its own, so that `price = $1` compares with
//! what the client sent.

#[cfg(test)]
mod tests;

use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;
use kho_sql::input::{ColumnBuilder, Number, checked_utf8, invalid_encoding, numeric_text};
use kho_sql::session::ValueFormat;

use super::wire::FormatCode;

/// Reads one parameter; `None` is NULL.
///
/// # Errors
/// `22P02`, `22P03`, `22003`, `22007`, `22008`, `22021`, `22001`, `42804` with PostgreSQL's
/// messages; `22023` for a format code that is none; `0A000` for `infinity`, `NaN`, and what else
/// Kho does not store.
pub fn decode_parameter(
    bytes: Option<&[u8]>,
    format: i16,
    of: &Type,
    format_settings: &ValueFormat,
) -> Result<ScalarValue> {
    let format = FormatCode::try_from(format)?;
    let Some(bytes) = bytes else { return null(of) };
    if let Type::Numeric(precision, scale) = of {
        return match format {
            FormatCode::Text => numeric(checked_text(bytes)?, *precision, *scale),
            FormatCode::Binary => numeric(&numeric_text(bytes)?, *precision, *scale),
        };
    }
    let mut builder = ColumnBuilder::new(&of.to_field("parameter", true), format_settings)?;
    match format {
        FormatCode::Text => builder.append(Some(checked_text(bytes)?))?,
        FormatCode::Binary => builder.append_binary(Some(bytes))?,
    }
    scalar(&mut builder)
}

fn null(of: &Type) -> Result<ScalarValue> {
    ScalarValue::try_from(&of.to_arrow())
        .map_err(|error| Error::internal("a NULL of this type cannot be made").with_source(error))
}

fn scalar(builder: &mut ColumnBuilder) -> Result<ScalarValue> {
    let array = builder.finish()?;
    ScalarValue::try_from_array(&array, 0)
        .map_err(|error| Error::internal("a parameter did not become a value").with_source(error))
}

fn numeric(text: &str, precision: u8, scale: u8) -> Result<ScalarValue> {
    let number = Number::parse(text)?;
    let declared_scale = i8::try_from(scale).unwrap_or(i8::MAX);
    if number.is_exact_at(scale)
        && let Ok(unscaled) = number.to_decimal(precision, scale)
    {
        return Ok(ScalarValue::Decimal128(Some(unscaled), precision, declared_scale));
    }
    let (unscaled, precision, scale) = number.to_exact().ok_or_else(|| {
        Error::new(Kind::NumericOutOfRange, "numeric parameter has more than 38 digits")
    })?;
    let scale = i8::try_from(scale).unwrap_or(i8::MAX);
    Ok(ScalarValue::Decimal128(Some(unscaled), precision, scale))
}

fn checked_text(bytes: &[u8]) -> Result<&str> {
    if bytes.contains(&0) {
        return Err(invalid_encoding(&[0]));
    }
    checked_utf8(bytes)
}
