//! What the options of a `COPY` mean, with PostgreSQL's defaults and refusals.

use arrow::datatypes::Schema;
use kho_catalog::error::{Error, Kind, Result};

use crate::parse::CopyValue;

/// How the data of a `COPY` is written, with PostgreSQL's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    /// One byte, not a quote, a newline or a carriage return.
    pub delimiter: u8,
    /// What stands for NULL: `\N` in text, the unquoted empty string in CSV.
    pub null: String,
    pub header: CopyHeader,
    /// CSV only.
    pub quote: u8,
    /// CSV only.
    pub escape: u8,
    /// Positions, among the copied columns, that are always quoted on the way out (CSV).
    pub force_quote: Vec<usize>,
    /// Positions whose values are never matched against `null` on the way in (CSV).
    pub force_not_null: Vec<usize>,
    /// Positions whose values are matched against `null` even when quoted (CSV).
    pub force_null: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// The first line of text or CSV data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyHeader {
    /// It is data.
    Absent,
    /// In: passed over. Out: the column names.
    Present,
    /// In: must name the columns, in order.
    Match,
}

/// The options as given, made whole. `schema` has the copied columns.
pub(crate) fn parse(given: &[(String, CopyValue)], schema: &Schema) -> Result<CopyOptions> {
    for (index, (name, _)) in given.iter().enumerate() {
        if given.iter().skip(index + 1).any(|(other, _)| other == name) {
            return Err(syntax(format!("conflicting or redundant options: {name}")));
        }
    }
    let format = match text(given, "format")? {
        None | Some("text") => CopyFormat::Text,
        Some("csv") => CopyFormat::Csv,
        Some("binary") => CopyFormat::Binary,
        Some(other) => {
            return Err(Error::new(
                Kind::InvalidParameterValue,
                format!("COPY format \"{other}\" not recognized"),
            ));
        }
    };
    refuse_misplaced(given, format)?;
    let quote = byte(given, "quote")?.unwrap_or(b'"');
    let options = CopyOptions {
        format,
        delimiter: byte(given, "delimiter")?.unwrap_or(match format {
            CopyFormat::Csv => b',',
            _ => b'\t',
        }),
        null: match (text(given, "null")?, format) {
            (Some(null), _) => null.to_owned(),
            (None, CopyFormat::Csv) => String::new(),
            (None, _) => "\\N".to_owned(),
        },
        header: header(given)?,
        quote,
        escape: byte(given, "escape")?.unwrap_or(quote),
        force_quote: columns(given, "force_quote", schema)?,
        force_not_null: columns(given, "force_not_null", schema)?,
        force_null: columns(given, "force_null", schema)?,
    };
    check(&options)?;
    Ok(options)
}

fn find<'a>(given: &'a [(String, CopyValue)], name: &str) -> Option<&'a CopyValue> {
    given.iter().find(|(given, _)| given == name).map(|(_, value)| value)
}

fn refuse_misplaced(given: &[(String, CopyValue)], format: CopyFormat) -> Result<()> {
    for (name, value) in given {
        match name.as_str() {
            "format" => {}
            "encoding" => {
                let utf8 = matches!(value, CopyValue::Text(it)
                    if it.eq_ignore_ascii_case("utf8") || it.eq_ignore_ascii_case("utf-8"));
                if !utf8 {
                    return Err(Error::unsupported("data is copied in UTF8 only"));
                }
            }
            "freeze" => return Err(Error::unsupported("COPY FREEZE is not supported")),
            "delimiter" | "null" | "header" if format != CopyFormat::Binary => {}
            "delimiter" | "null" | "header" => {
                return Err(syntax(format!(
                    "cannot specify {} in BINARY mode",
                    name.to_uppercase()
                )));
            }
            "quote" | "escape" | "force_quote" | "force_not_null" | "force_null"
                if format == CopyFormat::Csv => {}
            "quote" | "escape" | "force_quote" | "force_not_null" | "force_null" => {
                return Err(Error::unsupported(format!("COPY {name} available only in CSV mode")));
            }
            other => return Err(syntax(format!("option \"{other}\" not recognized"))),
        }
    }
    Ok(())
}

fn text<'a>(given: &'a [(String, CopyValue)], name: &str) -> Result<Option<&'a str>> {
    match find(given, name) {
        None => Ok(None),
        Some(CopyValue::Text(text)) => Ok(Some(text)),
        Some(_) => Err(syntax(format!("{name} requires a parameter"))),
    }
}

fn byte(given: &[(String, CopyValue)], name: &str) -> Result<Option<u8>> {
    match text(given, name)?.map(str::as_bytes) {
        None => Ok(None),
        Some([byte]) => Ok(Some(*byte)),
        Some(_) => {
            Err(Error::unsupported(format!("COPY {name} must be a single one-byte character")))
        }
    }
}

fn header(given: &[(String, CopyValue)]) -> Result<CopyHeader> {
    Ok(match find(given, "header") {
        None => CopyHeader::Absent,
        Some(CopyValue::Absent) => CopyHeader::Present,
        Some(CopyValue::Text(text)) => match text.to_lowercase().as_str() {
            "true" | "on" | "1" => CopyHeader::Present,
            "false" | "off" | "0" => CopyHeader::Absent,
            "match" => CopyHeader::Match,
            _ => return Err(syntax("header requires a Boolean value or \"match\"".to_owned())),
        },
        Some(_) => return Err(syntax("header requires a Boolean value or \"match\"".to_owned())),
    })
}

fn columns(given: &[(String, CopyValue)], name: &str, schema: &Schema) -> Result<Vec<usize>> {
    match find(given, name) {
        None => Ok(Vec::new()),
        Some(CopyValue::AllColumns) => Ok((0..schema.fields().len()).collect()),
        Some(CopyValue::Columns(names)) => names
            .iter()
            .map(|column| {
                schema.index_of(column).map_err(|_| {
                    Error::new(
                        Kind::UndefinedColumn,
                        format!("column \"{column}\" of {name} is not copied"),
                    )
                })
            })
            .collect(),
        Some(_) => Err(syntax(format!("argument to option \"{name}\" must be a list of columns"))),
    }
}

fn check(options: &CopyOptions) -> Result<()> {
    let csv = options.format == CopyFormat::Csv;
    let line_end = |byte: u8| byte == b'\n' || byte == b'\r';
    if line_end(options.delimiter) {
        return Err(invalid("COPY delimiter cannot be newline or carriage return"));
    }
    if options.null.contains(['\n', '\r']) {
        return Err(invalid("COPY null representation cannot use newline or carriage return"));
    }
    if !csv && b"\\.abcdefghijklmnopqrstuvwxyz0123456789".contains(&options.delimiter) {
        return Err(invalid("COPY delimiter cannot be a letter, a digit, a point or a backslash"));
    }
    if csv && options.delimiter == options.quote {
        return Err(invalid("COPY delimiter and quote must be different"));
    }
    let delimiter = char::from(options.delimiter);
    if options.format != CopyFormat::Binary && options.null.contains(delimiter) {
        return Err(invalid("COPY delimiter must not appear in the NULL specification"));
    }
    if csv && options.null.contains(char::from(options.quote)) {
        return Err(invalid("CSV quote character must not appear in the NULL specification"));
    }
    Ok(())
}

fn syntax(message: String) -> Error {
    Error::new(Kind::Syntax, message)
}

fn invalid(message: &str) -> Error {
    Error::new(Kind::InvalidParameterValue, message)
}
