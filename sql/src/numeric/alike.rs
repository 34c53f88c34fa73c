//! Operands and results, brought to one type as PostgreSQL brings them to one.
//!
//! What it guarantees: what is compared or computed with a float is a double; the branches of
//! `CASE`, the arguments of `COALESCE`, `GREATEST` and `LEAST` and the elements of an array have the
//! type of the result; a quoted literal among them is read as that. Spans of time are compared by their
//! length.
//! What it does not: whole numbers and numerics are compared as the engine does it, which is exact.
//! On failure: `42804` where one result would be text and another is not.
//!
//! # Why
//! The engine brings these to one type only when it has told the type of the result, which is that
//! of the first branch.

use arrow::datatypes::{DataType, Decimal128Type, DecimalType, TimeUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{
    Between, Case, Cast, InList, InSubquery, ScalarFunction, SetComparison,
};
use datafusion::logical_expr::expr_schema::cast_subquery;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, Subquery};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind};
use kho_catalog::types::Type;

use super::common::{INTERVAL, chosen, compared, is_span};
use super::{digits, spans};
use crate::errors::to_engine;
use crate::input::{compares, exact_number};

/// Functions that give one of their arguments, or all of them as one.
const CHOOSING: [&str; 4] = ["coalesce", "greatest", "least", "make_array"];

/// `expr` with casts where PostgreSQL has them. What stands in it was seen before.
pub(super) fn alike(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(it) if compares(it.op) => Ok(comparison(it, schema)),
        Expr::BinaryExpr(it) if it.op.is_numerical_operators() => Ok(arithmetic(it, schema)),
        Expr::Between(Between { mut expr, negated, mut low, mut high }) => {
            let changed = to_compare(vec![&mut expr, &mut low, &mut high], schema);
            let between = Between::new(expr, negated, low, high);
            Ok(Transformed::new_transformed(Expr::Between(between), changed))
        }
        Expr::InList(InList { mut expr, mut list, negated }) => {
            let is_one = list.len() == 1;
            let parts = std::iter::once(expr.as_mut()).chain(&mut list).collect();
            // Several are one array, whose elements are of the type of what they are compared with.
            let changed = match is_one {
                true => to_compare(parts, schema),
                false => among(parts, schema),
            };
            let list = InList::new(expr, list, negated);
            Ok(Transformed::new_transformed(Expr::InList(list), changed))
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let (expr, subquery, changed) = beside_subquery(expr, subquery, schema)?;
            let it = InSubquery::new(expr, subquery, negated);
            Ok(Transformed::new_transformed(Expr::InSubquery(it), changed))
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
            let (expr, subquery, changed) = beside_subquery(expr, subquery, schema)?;
            let it = SetComparison::new(expr, subquery, op, quantifier);
            Ok(Transformed::new_transformed(Expr::SetComparison(it), changed))
        }
        Expr::Case(it) => case(it, schema),
        Expr::ScalarFunction(it) if it.name() == "nullif" => Ok(null_if(it, schema)),
        Expr::ScalarFunction(mut it) if CHOOSING.contains(&it.name()) => {
            let name = it.name().to_ascii_uppercase();
            let changed = to_choose(it.args.iter_mut().collect(), &name, schema)?;
            spans::refuse_choice(&it, schema)?;
            Ok(Transformed::new_transformed(Expr::ScalarFunction(it), changed))
        }
        Expr::AggregateFunction(it) => spans::aggregate(it, schema),
        Expr::WindowFunction(it) => spans::window(it, schema),
        Expr::Cast(Cast { expr, field }) => Ok(match exact_float(&expr, field.data_type()) {
            Some(float) => Transformed::yes(Expr::Literal(float, None)),
            None => Transformed::no(Expr::Cast(Cast::new_from_field(expr, field))),
        }),
        other => Ok(Transformed::no(other)),
    }
}

/// `expr` as a value of type `of`.
pub(super) fn cast(expr: Expr, of: &DataType, schema: &DFSchema) -> Expr {
    if expr.get_type(schema).is_ok_and(|it| it == *of) {
        return expr;
    }
    match exact_float(&expr, of) {
        Some(float) => Expr::Literal(float, None),
        None => Expr::Cast(Cast::new(Box::new(expr), of.clone())),
    }
}

/// Brings two expressions that are compared, each over its own schema, to one type.
pub(super) fn pair(one: (Expr, &DFSchema), other: (Expr, &DFSchema)) -> (Expr, Expr) {
    let of = |(expr, schema): &(Expr, &DFSchema)| expr.get_type(*schema).ok();
    let (Some(left), Some(right)) = (of(&one), of(&other)) else { return (one.0, other.0) };
    if is_span(&left) && is_span(&right) && (left == INTERVAL || right == INTERVAL) {
        return (spans::length(one.0, one.1), spans::length(other.0, other.1));
    }
    match compared(&[left, right]) {
        Some(of) => (cast(one.0, &of, one.1), cast(other.0, &of, other.1)),
        None => (one.0, other.0),
    }
}

fn comparison(it: BinaryExpr, schema: &DFSchema) -> Transformed<Expr> {
    let BinaryExpr { mut left, op, mut right } = it;
    let changed = to_compare(vec![&mut left, &mut right], schema);
    Transformed::new_transformed(Expr::BinaryExpr(BinaryExpr { left, op, right }), changed)
}

fn arithmetic(it: BinaryExpr, schema: &DFSchema) -> Transformed<Expr> {
    let BinaryExpr { left, op, right } = it;
    let types = (left.get_type(schema), right.get_type(schema));
    let (Ok(of_left), Ok(of_right)) = types else {
        return Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }));
    };
    let (left, right) = match digits::computed(left, op, right, schema, (&of_left, &of_right)) {
        Ok(result) => return Transformed::yes(result),
        Err(operands) => operands,
    };
    let timestamp = || DataType::Timestamp(TimeUnit::Microsecond, None);
    let binary = |left: Box<Expr>, right: Box<Expr>| {
        Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
    };
    match (op, &of_left, &of_right) {
        // A day and a span of time make a timestamp.
        (Operator::Plus | Operator::Minus, DataType::Date32, span) if is_span(span) => {
            binary(Box::new(cast(*left, &timestamp(), schema)), right)
        }
        (Operator::Plus, span, DataType::Date32) if is_span(span) => {
            binary(left, Box::new(cast(*right, &timestamp(), schema)))
        }
        (Operator::Multiply | Operator::Divide, span, by) if is_span(span) && by.is_numeric() => {
            Transformed::yes(spans::scaled(*left, op, *right, schema))
        }
        // Between two days there are an integer of them. The engine, which has a number for the result
        // too, takes its bounds for spans of time.
        (Operator::Minus, DataType::Date32, DataType::Date32) => {
            let number = |day| Box::new(Expr::Cast(Cast::new(day, DataType::Int32)));
            binary(number(left), number(right))
        }
        (Operator::Multiply, by, span) if is_span(span) && by.is_numeric() => {
            Transformed::yes(spans::scaled(*right, op, *left, schema))
        }
        _ => match compared(&[of_left, of_right]) {
            Some(of) => {
                binary(Box::new(cast(*left, &of, schema)), Box::new(cast(*right, &of, schema)))
            }
            None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
        },
    }
}

fn case(mut it: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut changed = false;
    if let Some(of) = &mut it.expr {
        let whens = it.when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
        changed = to_compare(std::iter::once(of.as_mut()).chain(whens).collect(), schema);
    }
    let results = it.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
    let results = results.chain(it.else_expr.as_deref_mut()).collect();
    changed |= to_choose(results, "CASE", schema)?;
    Ok(Transformed::new_transformed(Expr::Case(it), changed))
}

/// `NULLIF` is of the type of its first argument, where the two can be compared as they are.
fn null_if(mut it: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    let types: Vec<DataType> = it.args.iter().filter_map(|arg| arg.get_type(schema).ok()).collect();
    let [first, second] = types.as_slice() else {
        return Transformed::no(Expr::ScalarFunction(it));
    };
    if is_span(first) && is_span(second) {
        return Transformed::yes(spans::null_if(it, schema));
    }
    let back = match (first, second) {
        (one, other) if one == other => None,
        (one, other) if one.is_signed_integer() && other.is_signed_integer() => Some(one.clone()),
        (DataType::Float32, DataType::Float64) => Some(DataType::Float32),
        _ => None,
    };
    let changed = to_compare(it.args.iter_mut().collect(), schema);
    match back {
        Some(of) => Transformed::yes(Expr::Cast(Cast::new(Box::new(Expr::ScalarFunction(it)), of))),
        None => Transformed::new_transformed(Expr::ScalarFunction(it), changed),
    }
}

/// What is compared with the one column of a subquery, and that.
fn beside_subquery(
    expr: Box<Expr>,
    subquery: Subquery,
    schema: &DFSchema,
) -> Result<(Box<Expr>, Subquery, bool)> {
    let given = subquery.subquery.schema().fields().first().map(|it| it.data_type().clone());
    let (Ok(of), Some(given)) = (expr.get_type(schema), given) else {
        return Ok((expr, subquery, false));
    };
    if of == INTERVAL || given == INTERVAL {
        return Err(spans::unsupported("comparing an interval with a subquery"));
    }
    match compared(&[of, given]) {
        Some(of) => Ok((Box::new(cast(*expr, &of, schema)), cast_subquery(subquery, &of)?, true)),
        None => Ok((expr, subquery, false)),
    }
}

/// Brings what is compared to one type; says whether anything changed.
fn to_compare(mut parts: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    let types: Option<Vec<DataType>> =
        parts.iter().map(|part| part.get_type(schema).ok()).collect();
    let Some(types) = types else { return false };
    if types.iter().any(is_span) {
        return spans::to_compare(&mut parts, &types, schema);
    }
    let Some(of) = compared(&types) else { return false };
    for part in parts {
        replace(part, |it| cast(it, &of, schema));
    }
    true
}

/// Brings what is looked for among others to one type with them; says whether anything changed.
fn among(mut parts: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    match types_of(&parts, schema).and_then(|known| chosen(&known)) {
        Some(DataType::Float32) => {
            for part in &mut parts {
                replace(part, |it| cast(it, &DataType::Float32, schema));
            }
            true
        }
        _ => to_compare(parts, schema),
    }
}

/// Brings those of which one is chosen to one type; says whether anything changed.
fn to_choose(mut parts: Vec<&mut Expr>, what: &str, schema: &DFSchema) -> Result<bool> {
    let Some(known) = types_of(&parts, schema) else { return Ok(false) };
    let is_open = parts.iter().any(|part| quoted(part).is_some());
    let Some(of) = chosen(&known).or_else(|| known.first().filter(|_| is_open).cloned()) else {
        return Ok(false);
    };
    if of.is_string() {
        refuse_mixture(&known, what)?;
        return Ok(false);
    }
    for part in &mut parts {
        if let Some(text) = quoted(part) {
            let number = of.is_decimal().then(|| exact_number(text)).transpose();
            **part = match number.map_err(to_engine)?.flatten() {
                Some(number) => Expr::Literal(number, None),
                None => Expr::Cast(Cast::new(Box::new(std::mem::take(*part)), of.clone())),
            };
        }
    }
    // A literal may have had more digits than the others.
    let of = types_of(&parts, schema).and_then(|known| chosen(&known)).unwrap_or(of);
    for part in parts {
        if part.get_type(schema).is_ok_and(|it| !it.is_null()) {
            replace(part, |it| cast(it, &of, schema));
        }
    }
    Ok(true)
}

/// The types of what has one: neither NULL nor a quoted literal.
fn types_of(parts: &[&mut Expr], schema: &DFSchema) -> Option<Vec<DataType>> {
    let typed = parts.iter().filter(|part| quoted(part).is_none());
    let types: Option<Vec<DataType>> = typed.map(|part| part.get_type(schema).ok()).collect();
    Some(types?.into_iter().filter(|of| !of.is_null()).collect())
}

fn refuse_mixture(types: &[DataType], what: &str) -> Result<()> {
    let name = |of: &DataType| Type::from_arrow(of).map(|it| it.to_string());
    let other = types.iter().find(|of| of.is_numeric() || of.is_temporal());
    match other.and_then(name) {
        Some(other) => Err(to_engine(Error::new(
            Kind::DatatypeMismatch,
            format!("{what} types text and {other} cannot be matched"),
        ))),
        None => Ok(()),
    }
}

/// The text of a literal that nothing gave a type yet.
pub(super) fn quoted(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, None) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// The float that stands nearest to a numeric literal: the engine's cast is off by a last digit.
fn exact_float(expr: &Expr, of: &DataType) -> Option<ScalarValue> {
    let Expr::Literal(ScalarValue::Decimal128(Some(unscaled), precision, scale), _) = expr else {
        return None;
    };
    let text = Decimal128Type::format_decimal(*unscaled, *precision, *scale);
    match of {
        DataType::Float64 => Some(ScalarValue::Float64(Some(text.parse().ok()?))),
        DataType::Float32 => Some(ScalarValue::Float32(Some(text.parse().ok()?))),
        _ => None,
    }
}

pub(super) fn replace(place: &mut Expr, by: impl FnOnce(Expr) -> Expr) {
    let old = std::mem::take(place);
    *place = by(old);
}
