//! Values of system tables and of the functions beside them, and their Arrow form.
//!
//! What it guarantees: a list of values becomes an array of the type that PostgreSQL's type name
//! stands for; a value of another kind is an error, never a silent NULL.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, ListArray, ListBuilder, StringArray, StringBuilder, TimestampMicrosecondArray,
    UInt32Array,
};
use arrow::array::{Int16Builder, Int64Builder, UInt32Builder};
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Result};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    Texts(Vec<String>),
    Ints(Vec<i64>),
    /// Microseconds since the epoch.
    Time(i64),
}

impl Value {
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as an integer; a text that reads as one counts, as in PostgreSQL's literals.
    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    pub fn bool(&self) -> Option<bool> {
        match self {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The value of an evaluated argument.
    pub fn from_scalar(scalar: &ScalarValue) -> Result<Value> {
        Ok(match scalar {
            it if it.is_null() => Value::Null,
            ScalarValue::Boolean(Some(truth)) => Value::Bool(*truth),
            ScalarValue::Int8(Some(number)) => Value::Int(i64::from(*number)),
            ScalarValue::Int16(Some(number)) => Value::Int(i64::from(*number)),
            ScalarValue::Int32(Some(number)) => Value::Int(i64::from(*number)),
            ScalarValue::Int64(Some(number)) => Value::Int(*number),
            ScalarValue::UInt8(Some(number)) => Value::Int(i64::from(*number)),
            ScalarValue::UInt16(Some(number)) => Value::Int(i64::from(*number)),
            ScalarValue::UInt32(Some(number)) => Value::Int(i64::from(*number)),
            ScalarValue::UInt64(Some(number)) => Value::Int(
                i64::try_from(*number)
                    .map_err(|error| Error::internal("a number is too large").with_source(error))?,
            ),
            ScalarValue::Utf8(Some(text))
            | ScalarValue::LargeUtf8(Some(text))
            | ScalarValue::Utf8View(Some(text)) => Value::Text(text.clone()),
            ScalarValue::TimestampMicrosecond(Some(at), _) => Value::Time(*at),
            ScalarValue::Dictionary(_, value) => Value::from_scalar(value)?,
            ScalarValue::List(list) => from_list(list)?,
            other => {
                return Err(Error::unsupported(format!(
                    "a value of type {} is not taken by a system function",
                    other.data_type()
                )));
            }
        })
    }
}

fn from_list(list: &ListArray) -> Result<Value> {
    let elements = list.value(0);
    let mut values = Vec::with_capacity(elements.len());
    for at in 0..elements.len() {
        let scalar = ScalarValue::try_from_array(&elements, at)
            .map_err(|error| Error::internal("an array cannot be read").with_source(error))?;
        values.push(Value::from_scalar(&scalar)?);
    }
    if matches!(elements.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        let texts = values.iter().map(|it| it.text().unwrap_or("NULL").to_owned());
        return Ok(Value::Texts(texts.collect()));
    }
    Ok(Value::Ints(values.iter().filter_map(Value::int).collect()))
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Value::Int(i64::from(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Value::Int(i64::from(value))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<Vec<String>> for Value {
    fn from(value: Vec<String>) -> Self {
        Value::Texts(value)
    }
}

impl From<Vec<i64>> for Value {
    fn from(value: Vec<i64>) -> Self {
        Value::Ints(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// The Arrow type that carries PostgreSQL's `pg_type`. An `oid` is what nothing else here is, an
/// unsigned integer, so that a client is told of it whatever it went through.
pub fn arrow_type(pg_type: &str) -> DataType {
    let list = |element| DataType::List(Arc::new(Field::new_list_field(element, true)));
    match pg_type {
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" => DataType::Int32,
        "oid" => DataType::UInt32,
        "int8" | "xid" | "regproc" | "regtype" | "regclass" | "regnamespace" | "regrole" => {
            DataType::Int64
        }
        "float4" => DataType::Float32,
        "float8" => DataType::Float64,
        "bytea" => DataType::Binary,
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        "int2[]" | "int2vector" => list(DataType::Int16),
        "oid[]" | "oidvector" => list(DataType::UInt32),
        "regtype[]" | "int8[]" => list(DataType::Int64),
        _ if pg_type.ends_with("[]") || pg_type == "anyarray" => list(DataType::Utf8),
        _ => DataType::Utf8,
    }
}

/// What stands in a NOT NULL column that nothing is said of: zero, false, the empty text.
pub fn default_value(pg_type: &str) -> Value {
    match arrow_type(pg_type) {
        DataType::Boolean => Value::Bool(false),
        DataType::Utf8 => Value::Text(String::new()),
        DataType::List(field) if field.data_type() == &DataType::Utf8 => Value::Texts(Vec::new()),
        DataType::List(_) => Value::Ints(Vec::new()),
        _ => Value::Int(0),
    }
}

/// An array of PostgreSQL's `pg_type` with these values.
pub fn array(pg_type: &str, values: &[Value]) -> Result<ArrayRef> {
    Ok(match arrow_type(pg_type) {
        DataType::Boolean => Arc::new(each(values, Value::bool)?.collect::<BooleanArray>()),
        DataType::Int16 => Arc::new(each(values, narrow::<i16>)?.collect::<Int16Array>()),
        DataType::Int32 => Arc::new(each(values, narrow::<i32>)?.collect::<Int32Array>()),
        DataType::UInt32 => Arc::new(each(values, narrow::<u32>)?.collect::<UInt32Array>()),
        DataType::Int64 => Arc::new(each(values, Value::int)?.collect::<Int64Array>()),
        DataType::Float32 => Arc::new(
            each(values, narrow::<i16>)?.map(|it| it.map(f32::from)).collect::<Float32Array>(),
        ),
        DataType::Float64 => Arc::new(
            each(values, narrow::<i32>)?.map(|it| it.map(f64::from)).collect::<Float64Array>(),
        ),
        DataType::Utf8 => Arc::new(StringArray::from(
            each(values, |it| it.text().map(str::to_owned))?.collect::<Vec<_>>(),
        )),
        DataType::Binary => Arc::new(BinaryArray::from_iter(each(values, |it| {
            it.text().map(|text| text.as_bytes().to_vec())
        })?)),
        DataType::Timestamp(..) => {
            let times = each(values, |it| match it {
                Value::Time(at) => Some(*at),
                _ => None,
            })?;
            Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        DataType::List(element) => list(element.data_type(), values)?,
        other => return Err(Error::internal(format!("no system table has {other}"))),
    })
}

fn list(element: &DataType, values: &[Value]) -> Result<ArrayRef> {
    Ok(match element {
        DataType::Utf8 => {
            let mut builder = ListBuilder::new(StringBuilder::new());
            for value in values {
                match value {
                    Value::Texts(texts) => builder.append_value(texts.iter().map(Some)),
                    Value::Null => builder.append_null(),
                    other => return Err(mismatch(other)),
                }
            }
            Arc::new(builder.finish())
        }
        DataType::Int16 => {
            let mut builder = ListBuilder::new(Int16Builder::new());
            for value in values {
                match value {
                    Value::Ints(ints) => {
                        builder.append_value(ints.iter().map(|it| i16::try_from(*it).ok()));
                    }
                    Value::Null => builder.append_null(),
                    other => return Err(mismatch(other)),
                }
            }
            Arc::new(builder.finish())
        }
        DataType::UInt32 => {
            let mut builder = ListBuilder::new(UInt32Builder::new());
            for value in values {
                match value {
                    Value::Ints(ints) => {
                        builder.append_value(ints.iter().map(|it| u32::try_from(*it).ok()));
                    }
                    Value::Null => builder.append_null(),
                    other => return Err(mismatch(other)),
                }
            }
            Arc::new(builder.finish())
        }
        _ => {
            let mut builder = ListBuilder::new(Int64Builder::new());
            for value in values {
                match value {
                    Value::Ints(ints) => builder.append_value(ints.iter().copied().map(Some)),
                    Value::Null => builder.append_null(),
                    other => return Err(mismatch(other)),
                }
            }
            Arc::new(builder.finish())
        }
    })
}

fn narrow<T: TryFrom<i64>>(value: &Value) -> Option<T> {
    value.int().and_then(|number| T::try_from(number).ok())
}

fn each<'a, T: 'a>(
    values: &'a [Value],
    read: impl Fn(&Value) -> Option<T> + 'a,
) -> Result<impl Iterator<Item = Option<T>> + 'a> {
    match values.iter().find(|it| !it.is_null() && read(it).is_none()) {
        Some(other) => Err(mismatch(other)),
        None => Ok(values.iter().map(read)),
    }
}

fn mismatch(value: &Value) -> Error {
    Error::internal(format!("a system table was given a value of the wrong kind: {value:?}"))
}
