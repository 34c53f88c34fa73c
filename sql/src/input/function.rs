//! The function that a cast of text becomes: PostgreSQL's input syntax over a column.
//!
//! What it guarantees: a result of exactly the type and metadata that the cast had, NULL for NULL,
//! and [`ColumnBuilder`]'s reading of everything else. An explicit cast to `varchar(n)` cuts.
//! What it does not: the time zone is that of the statement it was planned in.
//! On failure: the reader's error, with its SQLSTATE, for the first value that is none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoArray, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, IntervalMonthDayNano, IntervalUnit};
use datafusion::common::{Result as PlanResult, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::Result;
use kho_catalog::types::Type;

use super::ColumnBuilder;
use super::calendar::out_of_range;
use super::interval;
use super::object::check_json;
use super::zone::Zone;
use crate::errors::{from_arrow, from_engine, to_engine};
use crate::times::interval::Interval;

/// Intervals; no column of a table is of them.
const SPAN: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// Whether a column of this type holds text, in any of Arrow's encodings.
pub(crate) fn is_text(of: &DataType) -> bool {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// Whether text cast to `field` is read as a value; text is text already, and of some types Kho
/// has no input of its own (a time of day).
pub(crate) fn reads(field: &Field) -> bool {
    *field.data_type() == SPAN || !matches!(declared(field), None | Some(Type::Text))
}

/// The declared type of `field`. A declared type counts only over its carrier: a cast hands the
/// metadata of what it casts on to what it gives.
pub(crate) fn declared(field: &Field) -> Option<Type> {
    match is_text(field.data_type()) {
        true => Type::from_field(field),
        false => Type::from_arrow(field.data_type()),
    }
}

/// The values that a column of text stands for, as they are assigned to `field`.
///
/// # Errors
/// As [`ColumnBuilder::append`].
pub(crate) fn read_column(column: &ArrayRef, field: &Field, zone: Zone) -> Result<ArrayRef> {
    let texts = plain(column)?;
    let mut builder = ColumnBuilder::in_zone(&bare(field), zone)?;
    for text in texts.as_string::<i32>() {
        builder.append(text)?;
    }
    let read = builder.finish()?;
    match field.data_type() {
        // An oid is read as the wider integer that holds it.
        DataType::UInt32 => cast_with_options(&read, &DataType::UInt32, &strict())
            .map_err(|error| from_arrow(&error)),
        _ => Ok(read),
    }
}

/// The value that one text stands for, as a cast to `field` gives it.
///
/// # Errors
/// As [`ColumnBuilder::append`].
pub(crate) fn read_scalar(text: Option<&str>, field: &Field, zone: Zone) -> Result<ScalarValue> {
    let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let value = cast_column(&column, field, zone)?;
    ScalarValue::try_from_array(&value, 0).map_err(from_engine)
}

/// Refuses (`22P02`) a column of text of which one is no JSON document.
pub(crate) fn check_documents(column: &ArrayRef) -> Result<()> {
    plain(column)?.as_string::<i32>().iter().flatten().try_for_each(check_json)
}

fn cast_column(column: &ArrayRef, field: &Field, zone: Zone) -> Result<ArrayRef> {
    if *field.data_type() == SPAN {
        return read_spans(column);
    }
    let Some(Type::Varchar(length)) = declared(field) else {
        return read_column(column, field, zone);
    };
    let texts = plain(column)?;
    let cut = texts.as_string::<i32>().iter().map(|text| text.map(|text| first(text, length)));
    let cut: ArrayRef = Arc::new(cut.collect::<StringArray>());
    cast_with_options(&cut, field.data_type(), &strict()).map_err(|error| from_arrow(&error))
}

fn read_spans(column: &ArrayRef) -> Result<ArrayRef> {
    let texts = plain(column)?;
    let read = |text: &str| {
        let Interval { months, days, micros } = interval::parse(text)?;
        let nanoseconds = micros.checked_mul(1000).ok_or_else(|| out_of_range("interval"))?;
        Ok(IntervalMonthDayNano { months, days, nanoseconds })
    };
    let spans = texts.as_string::<i32>().iter().map(|text| text.map(read).transpose());
    Ok(Arc::new(spans.collect::<Result<IntervalMonthDayNanoArray>>()?))
}

fn first(text: &str, characters: u32) -> &str {
    let limit = usize::try_from(characters).unwrap_or(usize::MAX);
    match text.char_indices().nth(limit) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

/// Text in the one encoding that is read.
fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Utf8 => Ok(column.clone()),
        _ => cast_with_options(column, &DataType::Utf8, &strict())
            .map_err(|error| from_arrow(&error)),
    }
}

fn strict() -> CastOptions<'static> {
    CastOptions { safe: false, ..CastOptions::default() }
}

/// The field without metadata that is not about its type.
fn bare(field: &Field) -> Field {
    match is_text(field.data_type()) {
        true => field.clone(),
        false => field.clone().with_metadata(std::collections::HashMap::new()),
    }
}

/// Reads text as values of one type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TextInput {
    target: FieldRef,
    zone: Zone,
    signature: Signature,
}

impl TextInput {
    pub(super) fn new(target: FieldRef, zone: Zone) -> TextInput {
        TextInput { target, zone, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TextInput {
    fn name(&self) -> &str {
        "text_input"
    }

    /// Casts of one column to two types are not to share a name.
    fn schema_name(&self, args: &[Expr]) -> PlanResult<String> {
        let names: Vec<_> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        let of = declared(&self.target).map_or_else(String::new, |of| of.to_string());
        Ok(format!("{}({}, {of})", self.name(), names.join(", ")))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(self.target.data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        let field = self.target.as_ref().clone().with_name(self.name()).with_nullable(nullable);
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(column)] => cast_column(column, &self.target, self.zone)
                .map(ColumnarValue::Array)
                .map_err(to_engine),
            [ColumnarValue::Scalar(text)] => {
                let value = read_scalar(text.try_as_str().flatten(), &self.target, self.zone);
                value.map(ColumnarValue::Scalar).map_err(to_engine)
            }
            _ => exec_err!("text_input takes one argument"),
        }
    }
}
