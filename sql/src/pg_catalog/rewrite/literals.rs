//! Literals: PostgreSQL's array texts, and values as literals.

use arrow::datatypes::DataType as ArrowType;
use datafusion::scalar::ScalarValue;
use kho_catalog::error::Result;
use sqlparser::ast::{
    Array, ArrayElemTypeDef, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, Value, ValueWithSpan,
};

use super::{call, no_literal};

pub fn number(value: i64) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).with_empty_span())
}

pub fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).with_empty_span())
}

/// A value as an expression that has its type.
///
/// # Errors
/// `0A000` for a type that no system table has.
pub fn literal(value: &ScalarValue) -> Result<Expr> {
    if value.is_null() {
        let null = Expr::Value(Value::Null.with_empty_span());
        return match sql_type(&value.data_type()) {
            Some(data_type) => Ok(cast(null, data_type)),
            None => Ok(null),
        };
    }
    let plain = match value {
        ScalarValue::Boolean(Some(truth)) => Expr::Value(Value::Boolean(*truth).with_empty_span()),
        ScalarValue::Utf8(Some(it))
        | ScalarValue::LargeUtf8(Some(it))
        | ScalarValue::Utf8View(Some(it)) => return Ok(text(it)),
        ScalarValue::Int64(Some(it)) => return Ok(number(*it)),
        ScalarValue::Int32(Some(it)) => number(i64::from(*it)),
        ScalarValue::Int16(Some(it)) => number(i64::from(*it)),
        ScalarValue::Int8(Some(it)) => number(i64::from(*it)),
        ScalarValue::UInt8(Some(it)) => number(i64::from(*it)),
        ScalarValue::UInt16(Some(it)) => number(i64::from(*it)),
        ScalarValue::UInt32(Some(it)) => number(i64::from(*it)),
        ScalarValue::UInt64(Some(it)) => number(i64::try_from(*it).map_err(|_| no_literal(value))?),
        ScalarValue::List(list) => {
            let elements = list.value(0);
            let mut literals = Vec::new();
            for at in 0..arrow::array::Array::len(&elements) {
                let element =
                    ScalarValue::try_from_array(&elements, at).map_err(|_| no_literal(value))?;
                literals.push(literal(&element)?);
            }
            array(literals)
        }
        _ => return Err(no_literal(value)),
    };
    let data_type = sql_type(&value.data_type()).ok_or_else(|| no_literal(value))?;
    Ok(cast(plain, data_type))
}

/// `'{a,b}'` beside an array column of a system table is an array.
pub fn array_text(expr: &mut Expr, pg_type: &str) {
    let element = match pg_type {
        "int2vector" => "int8",
        "oidvector" => "oid",
        other => match other.strip_suffix("[]") {
            Some(element) => element,
            None => return,
        },
    };
    if let Some(elements) = elements(expr) {
        *expr = typed_array(&elements, element_type(element));
    }
}

/// The right side of `= ANY (…)`: a text there is an array, of the left side's type where that is
/// known.
pub fn array_operand(expr: &mut Expr, element: Option<&str>) {
    match expr {
        Expr::Nested(inner) => array_operand(inner, element),
        Expr::Value(_) => {
            if let Some(elements) = elements(expr) {
                *expr = typed_array(&elements, element.map_or(DataType::Text, element_type));
            }
        }
        _ => {}
    }
}

/// `coalesce(array, '{}')`: in a query of system tables alone, no other text is meant by that.
pub fn empty_arrays(function: &mut Function) {
    if let FunctionArguments::List(list) = &mut function.args {
        for argument in list.args.iter_mut().skip(1) {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument
                && elements(expr).is_some_and(|it| it.is_empty())
            {
                *expr = array(Vec::new());
            }
        }
    }
}

/// `LIKE … ESCAPE 'c'`: the planner knows the backslash alone.
pub fn like_pattern(pattern: &mut Expr, escape: &mut Option<ValueWithSpan>) {
    let plain = match escape {
        Some(value) => match &value.value {
            Value::SingleQuotedString(letter) => letter == "\\",
            _ => true,
        },
        None => true,
    };
    if !plain && let Some(letter) = escape.take() {
        let taken = std::mem::replace(pattern, number(0));
        *pattern = call("like_escape", vec![taken, Expr::Value(letter)]);
    }
}

/// A text cast to an array type: the array, if the text is one.
pub fn cast_text(expr: &Expr, element: &DataType) -> Option<Expr> {
    elements(expr).map(|elements| typed_array(&elements, element.clone()))
}

pub fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

pub fn array_of(element: DataType) -> DataType {
    DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(element), None))
}

fn array(elements: Vec<Expr>) -> Expr {
    Expr::Array(Array { elem: elements, named: true })
}

fn typed_array(elements: &[Option<String>], element: DataType) -> Expr {
    let literals = elements.iter().map(|it| match it {
        Some(it) => text(it),
        None => Expr::Value(Value::Null.with_empty_span()),
    });
    if elements.is_empty() {
        return cast(call("make_array", Vec::new()), array_of(element));
    }
    cast(array(literals.collect()), array_of(element))
}

fn element_type(pg_type: &str) -> DataType {
    match pg_type {
        "bool" => DataType::Boolean,
        "int2" => DataType::SmallInt(None),
        "int4" => DataType::Integer(None),
        "oid" => super::casts::oid(),
        "int8" | "xid" | "regproc" | "regtype" | "regclass" => DataType::BigInt(None),
        "float4" => DataType::Real,
        "float8" => DataType::DoublePrecision,
        _ => DataType::Text,
    }
}

/// The elements of a one-dimensional array in PostgreSQL's text form; `None` is NULL.
fn elements(expr: &Expr) -> Option<Vec<Option<String>>> {
    let Expr::Value(value) = expr else {
        return None;
    };
    let Value::SingleQuotedString(text) = &value.value else {
        return None;
    };
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim_start();
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let (element, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_element(quoted)?,
            None => {
                let (element, after) =
                    rest.split_at_checked(rest.find(',').unwrap_or(rest.len()))?;
                let element = element.trim();
                if element.is_empty() || element.contains(['{', '}', '\\', '"']) {
                    return None;
                }
                let null = element.eq_ignore_ascii_case("null");
                ((!null).then(|| element.to_owned()), after)
            }
        };
        elements.push(element);
        rest = match after.trim_start() {
            "" => "",
            // A comma must have something after it.
            after => Some(after.strip_prefix(',')?.trim_start()).filter(|it| !it.is_empty())?,
        };
    }
    Some(elements)
}

fn quoted_element(text: &str) -> Option<(Option<String>, &str)> {
    let mut element = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((Some(element), text.get(at.checked_add(1)?..)?)),
            '\\' => element.push(letters.next()?.1),
            letter => element.push(letter),
        }
    }
    None
}

fn sql_type(of: &ArrowType) -> Option<DataType> {
    Some(match of {
        ArrowType::Boolean => DataType::Boolean,
        ArrowType::Int8 | ArrowType::Int16 | ArrowType::UInt8 => DataType::SmallInt(None),
        ArrowType::Int32 | ArrowType::UInt16 => DataType::Integer(None),
        ArrowType::UInt32 => super::casts::oid(),
        ArrowType::Int64 | ArrowType::UInt64 => DataType::BigInt(None),
        ArrowType::Float32 => DataType::Real,
        ArrowType::Float64 => DataType::Double(ExactNumberInfo::None),
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => DataType::Text,
        ArrowType::List(element) => array_of(sql_type(element.data_type())?),
        _ => return None,
    })
}
