//! Which expressions can fail, by some value of a row.
//!
//! What it guarantees: what it takes for one that cannot fail cannot.
//! What it does not: it knows few functions, and none by name; what it does not know can fail.

use arrow::datatypes::{DataType, Schema};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, DynamicFilterPhysicalExpr, InListExpr, IsNotNullExpr, IsNullExpr,
    LikeExpr, Literal, NotExpr,
};

use crate::input::compares;

/// Whether `expr`, over columns of `schema`, can fail.
pub(super) fn can_fail(expr: &dyn PhysicalExpr, schema: &Schema) -> bool {
    let is_known = if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        compares(*binary.op()) || matches!(binary.op(), Operator::And | Operator::Or)
    } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        (cast.expr().data_type(schema)).is_ok_and(|from| keeps_all(&from, cast.cast_type()))
    } else {
        expr.downcast_ref::<Column>().is_some()
            || expr.downcast_ref::<Literal>().is_some()
            || expr.downcast_ref::<NotExpr>().is_some()
            || expr.downcast_ref::<IsNullExpr>().is_some()
            || expr.downcast_ref::<IsNotNullExpr>().is_some()
            || expr.downcast_ref::<InListExpr>().is_some()
            || expr.downcast_ref::<LikeExpr>().is_some()
            // A join makes it, of values that it holds.
            || expr.downcast_ref::<DynamicFilterPhysicalExpr>().is_some()
    };
    !is_known || expr.children().iter().any(|part| can_fail(part.as_ref(), schema))
}

/// Whether every value of `from` is one of `to`.
fn keeps_all(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal128, Float64, LargeUtf8, Utf8, Utf8View};
    let is_text = |it: &DataType| matches!(it, Utf8 | LargeUtf8 | Utf8View);
    match (from, to) {
        (from, to) if from == to || (is_text(from) && is_text(to)) => true,
        (Decimal128(..), Float64) => true,
        (Decimal128(digits, scale), Decimal128(to_digits, to_scale)) => {
            let whole = |digits: u8, scale: i8| i16::from(digits) - i16::from(scale);
            scale <= to_scale && whole(*digits, *scale) <= whole(*to_digits, *to_scale)
        }
        (from, Decimal128(digits, scale)) => {
            let whole = i16::from(*digits) - i16::from(*scale);
            digits_of(from).is_some_and(|needed| needed <= whole)
        }
        (from, Float64) => from.is_integer(),
        (from, to) => {
            let wider = |(one, other): (i16, i16)| one < other;
            from.is_signed_integer()
                && to.is_signed_integer()
                && digits_of(from).zip(digits_of(to)).is_some_and(wider)
        }
    }
}

/// How many digits the largest value of a type of whole numbers has.
fn digits_of(data_type: &DataType) -> Option<i16> {
    match data_type {
        DataType::Int8 => Some(3),
        DataType::Int16 => Some(5),
        DataType::Int32 => Some(10),
        DataType::Int64 => Some(19),
        _ => None,
    }
}
