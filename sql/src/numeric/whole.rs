//! Whole numbers as they are written: `1` is an integer, not a bigint.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, Values};
use datafusion::scalar::ScalarValue;

/// The literal as an integer, where it is a whole number that fits.
pub(super) fn narrowed_literal(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(number)), metadata) => {
            let small = i32::try_from(*number).ok()?;
            Some(Expr::Literal(ScalarValue::Int32(Some(small)), metadata.clone()))
        }
        _ => None,
    }
}

/// An aggregate of one row by its place, which the engine takes as a bigint alone: `(array_agg(x))[1]`.
pub(super) fn place(expr: Expr) -> Expr {
    let Expr::AggregateFunction(mut call) = expr else { return expr };
    if call.func.name() == "nth_value"
        && let Some(Expr::Literal(place, _)) = call.params.args.get_mut(1)
        && let ScalarValue::Int32(Some(at)) = place
    {
        *place = ScalarValue::Int64(Some(i64::from(*at)));
    }
    Expr::AggregateFunction(call)
}

/// The next whole number of a numeric, which may have one digit more than it, and has none behind the point.
pub(super) fn next(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::ScalarFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
    let of = match (call.func.name(), call.args.as_slice()) {
        ("ceil" | "floor", [value]) => value.get_type(schema)?,
        _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
    };
    let DataType::Decimal128(precision, scale @ 1..) = of else {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    };
    let wider = DataType::Decimal128(precision.saturating_add(1).min(38), scale);
    call.args = call.args.into_iter().map(|it| super::alike::cast(it, &wider, schema)).collect();
    let whole = precision.saturating_sub(scale.unsigned_abs()).saturating_add(1);
    let cast = Cast::new(Box::new(Expr::ScalarFunction(call)), DataType::Decimal128(whole, 0));
    Ok(Transformed::yes(Expr::Cast(cast)))
}

/// The columns of a `VALUES` list that are whole numbers throughout as integers where they fit.
pub(super) fn narrow_values(values: Values) -> Result<Values> {
    let Values { schema, mut values } = values;
    let mut types = Vec::new();
    for (index, field) in schema.fields().iter().enumerate() {
        let column: Option<Vec<ScalarValue>> = (values.iter())
            .map(|row| row.get(index).and_then(|it| narrowed(field.data_type(), it)))
            .collect();
        let Some(column) = column else {
            types.push(field.data_type().clone());
            continue;
        };
        for (row, value) in values.iter_mut().zip(column) {
            if let Some(place) = row.get_mut(index) {
                *place = Expr::Literal(value, None);
            }
        }
        types.push(DataType::Int32);
    }
    Ok(Values { schema: Arc::new(of_types(&schema, &types)?), values })
}

/// A `VALUES` list whose columns have the types that their expressions turned out to have.
pub(super) fn values_alike(values: Values, schema: &DFSchema) -> Result<LogicalPlan> {
    let Values { schema: told, mut values } = values;
    let mut types = Vec::new();
    for (index, field) in told.fields().iter().enumerate() {
        let of: Vec<DataType> =
            (values.iter()).filter_map(|row| row.get(index)?.get_type(schema).ok()).collect();
        if of.iter().all(|one| one == field.data_type() || one.is_null()) {
            types.push(field.data_type().clone());
            continue;
        }
        let common = super::common::chosen(&of).or_else(|| of.first().cloned());
        let common = common.unwrap_or_else(|| field.data_type().clone());
        for place in values.iter_mut().filter_map(|row| row.get_mut(index)) {
            let value = std::mem::take(place);
            *place = super::alike::cast(value, &common, schema);
        }
        types.push(common);
    }
    Ok(LogicalPlan::Values(Values { schema: Arc::new(of_types(&told, &types)?), values }))
}

/// The fields of `schema` with other types.
pub(super) fn of_types(schema: &DFSchema, types: &[DataType]) -> Result<DFSchema> {
    let fields = schema.iter().zip(types).map(|((qualifier, field), of)| {
        let field = match field.data_type() == of {
            true => Arc::clone(field),
            false => Arc::new(field.as_ref().clone().with_data_type(of.clone())),
        };
        (qualifier.cloned(), field)
    });
    DFSchema::new_with_metadata(fields.collect(), schema.metadata().clone())
}

fn narrowed(column: &DataType, value: &Expr) -> Option<ScalarValue> {
    let Expr::Literal(value, _) = value else { return None };
    match (column, value) {
        (DataType::Int64, ScalarValue::Int64(Some(number))) => {
            Some(ScalarValue::Int32(Some(i32::try_from(*number).ok()?)))
        }
        (DataType::Int64, ScalarValue::Int64(None) | ScalarValue::Null) => {
            Some(ScalarValue::Int32(None))
        }
        _ => None,
    }
}
