//! How many digits a quotient and a product of numerics have.
//!
//! What it guarantees: a quotient is rounded half away from zero, to sixteen digits after the point or
//! as many as its operands have; to fewer, but six, only where whole numbers of thirty digits and more
//! are divided. The quotient of two constants has the digits that PostgreSQL gives it. A product is
//! exact where 38 digits hold it, or where it has no more than 24 after the point; else it is rounded,
//! to no less than twenty.
//! What it does not: PostgreSQL takes the digits of each quotient from its value, between 16 that
//! count; here a column of quotients has one number of digits after the point.
//! On failure: `22012` for a division by zero, `22003` for what has more than 38 digits.
//!
//! # Why
//! The engine cuts a quotient off after four digits more than its dividend has, and overflows on the
//! way to it. It refuses the product of two numbers with more than 38 digits after their points
//! together, which products of quotients have.

mod constant;
mod function;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, Operator, ScalarUDF};
use datafusion::scalar::ScalarValue;

use super::alike::cast;
use function::NumericFunction;

/// Digits after the point of a quotient, where there is room.
const WANTED: i16 = 16;
/// Digits after the point of a quotient whose dividend may be a larger whole number than that.
const LEAST: i16 = 6;
/// The digits of the sums of bigints.
const WHOLE: i16 = 29;
/// Up to these a product has all its digits after the point, even if larger ones overflow then.
const EXACT: i16 = 24;
/// Digits after the point of a product that has more.
const ROUNDED: i16 = 20;
const MOST: i16 = DECIMAL128_MAX_PRECISION as i16;

/// The digits of a numeric: all of them, and those after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digits {
    all: i16,
    after: i16,
}

impl Digits {
    /// Those of a numeric or an integer.
    fn of(of: &DataType) -> Option<Digits> {
        let (all, after) = match of {
            DataType::Decimal128(all, after) if *after >= 0 => (i16::from(*all), i16::from(*after)),
            DataType::Int8 | DataType::UInt8 => (3, 0),
            DataType::Int16 | DataType::UInt16 => (5, 0),
            DataType::Int32 | DataType::UInt32 => (10, 0),
            DataType::Int64 => (19, 0),
            DataType::UInt64 => (20, 0),
            _ => return None,
        };
        Some(Digits { all, after })
    }

    fn whole(self) -> i16 {
        self.all.saturating_sub(self.after)
    }

    fn data_type(self) -> Option<DataType> {
        let (all, after) = (u8::try_from(self.all).ok()?, i8::try_from(self.after).ok()?);
        Some(DataType::Decimal128(all, after))
    }
}

/// A quotient or a product of numerics, where the engine's own is not PostgreSQL's; else the operands
/// again. A whole number among the operands that is written out has no more digits than are written.
pub(super) fn computed(
    left: Box<Expr>,
    op: Operator,
    right: Box<Expr>,
    schema: &DFSchema,
    types: (&DataType, &DataType),
) -> Result<Expr, (Box<Expr>, Box<Expr>)> {
    let is_numeric = types.0.is_decimal() || types.1.is_decimal();
    if !is_numeric || !matches!(op, Operator::Divide | Operator::Multiply) {
        return Err((left, right));
    }
    let operands = |expr: &Expr, of: &DataType| constant::whole(expr).or_else(|| Digits::of(of));
    let (Some(one), Some(other)) = (operands(&left, types.0), operands(&right, types.1)) else {
        return Err((left, right));
    };
    let (result, function): (_, fn(DataType) -> NumericFunction) = match op {
        Operator::Divide => {
            let of_constants = constant::quotient(&left, &right);
            let result = of_constants.unwrap_or_else(|| quotient(one, other));
            (result, NumericFunction::quotient)
        }
        _ => match product(one, other) {
            Some(result) => (result, NumericFunction::product),
            None => return exact_product(left, right, (one, other), types, schema),
        },
    };
    let types = (one.data_type(), other.data_type(), result.data_type());
    let (Some(one), Some(other), Some(result)) = types else { return Err((left, right)) };
    let args = vec![operand(*left, &one, schema), operand(*right, &other, schema)];
    let function = ScalarUDF::from(function(result));
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args)))
}

/// The quotient of two numerics as a numeric of the type `result`.
pub(super) fn divided(dividend: Expr, divisor: Expr, result: DataType) -> Expr {
    let function = ScalarUDF::from(NumericFunction::quotient(result));
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![dividend, divisor]))
}

/// The digits of a quotient. Before the point there is room for 22; the types of sums and of products
/// have room for more, which hardly a value needs, so that those whose quotient does overflow.
fn quotient(one: Digits, other: Digits) -> Digits {
    let is_large = one.after == 0 && one.whole() > WHOLE;
    let after = if is_large { (MOST - one.whole()).clamp(LEAST, WANTED) } else { WANTED };
    let after = after.max(one.after).max(other.after);
    Digits { all: (one.whole() + other.after + after).min(MOST), after }
}

/// The digits of a product that is rounded.
fn product(one: Digits, other: Digits) -> Option<Digits> {
    let exact = one.after + other.after;
    if one.all + other.all <= MOST || exact <= EXACT {
        return None;
    }
    let least = one.after.max(other.after).max(ROUNDED);
    let after = (MOST - one.whole() - other.whole()).max(least);
    (after < exact).then_some(Digits { all: MOST, after })
}

/// A product that the engine computes, of a numeric and a whole number.
fn exact_product(
    left: Box<Expr>,
    right: Box<Expr>,
    digits: (Digits, Digits),
    types: (&DataType, &DataType),
    schema: &DFSchema,
) -> Result<Expr, (Box<Expr>, Box<Expr>)> {
    let is_whole = |of: &DataType| of.is_integer();
    let narrow = |expr: Box<Expr>, digits: Digits, of: &DataType| match digits.data_type() {
        Some(narrow) if is_whole(of) => Box::new(operand(*expr, &narrow, schema)),
        _ => expr,
    };
    if !is_whole(types.0) && !is_whole(types.1) {
        return Err((left, right));
    }
    let left = narrow(left, digits.0, types.0);
    let right = narrow(right, digits.1, types.1);
    Ok(datafusion::logical_expr::binary_expr(*left, Operator::Multiply, *right))
}

/// An operand as a numeric of its digits.
fn operand(expr: Expr, of: &DataType, schema: &DFSchema) -> Expr {
    match (constant::integer(&expr), of) {
        (Some(number), DataType::Decimal128(all, after)) if *after == 0 => {
            Expr::Literal(ScalarValue::Decimal128(Some(number), *all, *after), None)
        }
        _ => cast(expr, of, schema),
    }
}
