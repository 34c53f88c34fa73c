//! What a function says of the parameters that are its arguments.
//!
//! What it is: the function's signature is asked what it would make of an argument of each kind. Where it
//! makes the same of all that it takes, that is the parameter's type; where it takes several kinds as
//! they are, the type is a guess, as PostgreSQL guesses it: text before all others, and of numbers a double.
//! What it does not: whole numbers are told as `integer`, which PostgreSQL's functions take, though the
//! engine's take more.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::type_coercion::functions::{UDFCoercionExt, fields_with_udf};
use kho_catalog::types::Type;

use super::operands::{is_parameter, known, state};
use super::parameters::guess;

/// States the types of the parameters among the arguments of `function`; whether there are any.
pub(super) fn tell<F: UDFCoercionExt>(
    function: &F,
    arguments: &mut [Expr],
    schema: &DFSchema,
) -> bool {
    let of_argument = |argument: &Expr| {
        let untold = || Arc::new(Field::new("", DataType::Null, true));
        known(argument, schema).unwrap_or_else(untold)
    };
    let mut fields: Vec<FieldRef> = arguments.iter().map(of_argument).collect();
    let mut any = false;
    for (place, argument) in arguments.iter_mut().enumerate() {
        if !is_parameter(argument) {
            continue;
        }
        let Some(field) = told(function, &fields, place) else { continue };
        any |= state(argument, &field);
        if let Some(known) = fields.get_mut(place) {
            *known = field;
        }
    }
    any
}

fn told<F: UDFCoercionExt>(function: &F, fields: &[FieldRef], place: usize) -> Option<FieldRef> {
    let mut taken: Vec<Type> = Vec::new();
    for kind in kinds() {
        let mut fields = fields.to_vec();
        *fields.get_mut(place)? = Arc::new(Field::new("", kind, true));
        let Ok(made) = fields_with_udf(&fields, function) else { continue };
        let made = made.get(place).and_then(|field| Type::from_field(field)).map(as_told);
        if let Some(made) = made.filter(|made| !taken.contains(made)) {
            taken.push(made);
        }
    }
    match taken.as_slice() {
        [] => None,
        [one] => Some(Arc::new(one.to_field("", true))),
        several => {
            let preferred = [Type::Text, Type::Double, Type::Timestamp];
            let preferred = preferred.iter().find(|it| several.contains(it));
            preferred.or(several.first()).map(|it| guess(it.to_arrow()))
        }
    }
}

/// One type of each kind of values.
fn kinds() -> [DataType; 8] {
    let zone = Some(Arc::from("UTC"));
    [
        DataType::Int32,
        DataType::Float64,
        DataType::Decimal128(38, 10),
        DataType::Utf8,
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, zone),
        DataType::Boolean,
    ]
}

fn as_told(of: Type) -> Type {
    match of {
        Type::SmallInt | Type::BigInt => Type::Integer,
        Type::Varchar(_) => Type::Text,
        // Of any size.
        Type::Numeric(..) => Type::Numeric(38, 10),
        other => other,
    }
}
