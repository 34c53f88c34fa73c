//! Spans of time as PostgreSQL compares and multiplies them.
//!
//! What it guarantees: in comparisons, in `ORDER BY` and as keys of groups and joins a month is
//! thirty days and a day is 24 hours, so that `interval '24 hours'` is one day.
//! What it does not: of equal spans in one group any is shown.
//! On failure: `0A000` for what would go by the parts of an interval, `22008` for a product that is
//! too large.
//!
//! # Why
//! The engine compares months first, then days, then the rest.

mod function;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result, TableReference};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::logical_expr::expr::{
    AggregateFunction, Case, NullTreatment, ScalarFunction, Sort, WindowFunction,
};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprSchemable, LogicalPlan, Operator, Projection, ScalarUDF,
    binary_expr,
};
use kho_catalog::error::Error;

use super::alike::{cast, replace};
use super::average;
use super::common::{INTERVAL, is_span};
use crate::errors::to_engine;
use function::SpanFunction;

/// How long a span is, as a number.
pub(super) fn length(span: Expr, schema: &DFSchema) -> Expr {
    let span = cast(span, &INTERVAL, schema);
    call(SpanFunction::length(), vec![span])
}

/// A span times a number, or divided by one.
pub(super) fn scaled(span: Expr, operator: Operator, by: Expr, schema: &DFSchema) -> Expr {
    let function = match operator {
        Operator::Divide => SpanFunction::divided(),
        _ => SpanFunction::times(),
    };
    call(function, vec![cast(span, &INTERVAL, schema), cast(by, &DataType::Float64, schema)])
}

/// Has spans that are compared compared by their lengths; says whether anything changed. What
/// counts the same parts already is left as it is.
pub(super) fn to_compare(parts: &mut [&mut Expr], types: &[DataType], schema: &DFSchema) -> bool {
    let by_parts = types.iter().any(|of| matches!(of, DataType::Interval(_)));
    if !by_parts || !types.iter().all(|of| is_span(of) || of.is_null() || of.is_string()) {
        return false;
    }
    for part in parts {
        replace(part, |it| length(it, schema));
    }
    true
}

/// `NULLIF` of two spans.
pub(super) fn null_if(it: ScalarFunction, schema: &DFSchema) -> Expr {
    let [first, second] = match <[Expr; 2]>::try_from(it.args) {
        Ok(both) => both,
        Err(args) => return Expr::ScalarFunction(ScalarFunction { func: it.func, args }),
    };
    let equal = binary_expr(length(first.clone(), schema), Operator::Eq, length(second, schema));
    let nothing = Expr::Literal(datafusion::scalar::ScalarValue::Null, None);
    Expr::Case(Case {
        expr: None,
        when_then_expr: vec![(Box::new(equal), Box::new(nothing))],
        else_expr: Some(Box::new(first)),
    })
}

/// The engine takes the greatest by parts.
pub(super) fn refuse_choice(it: &ScalarFunction, schema: &DFSchema) -> Result<()> {
    let compares = matches!(it.name(), "greatest" | "least");
    match compares && it.args.iter().any(|arg| is_interval(arg, schema)) {
        true => Err(unsupported(&format!("{} of intervals", it.name()))),
        false => Ok(()),
    }
}

/// An aggregate whose order and whose least and greatest are by length.
pub(super) fn aggregate(mut it: AggregateFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut changed = by_length(&mut it.params.order_by, schema);
    if let [arg] = it.params.args.as_slice()
        && is_interval(arg, schema)
    {
        match it.func.name() {
            name @ ("min" | "max") => {
                // Both go by one order, so that they can stand beside each other.
                it.func = if name == "min" { first_value_udaf() } else { last_value_udaf() };
                it.params.order_by = vec![Sort::new(length(arg.clone(), schema), true, false)];
                it.params.null_treatment = Some(NullTreatment::IgnoreNulls);
                it.params.distinct = false;
                changed = true;
            }
            "count" if it.params.distinct => {
                it.params.args = vec![length(arg.clone(), schema)];
                changed = true;
            }
            _ if it.params.distinct => {
                return Err(unsupported(&format!("{} of distinct intervals", it.func.name())));
            }
            _ => {}
        }
    }
    Ok(Transformed::new_transformed(Expr::AggregateFunction(it), changed))
}

/// A window whose order and whose parts are by length.
pub(super) fn window(mut it: Box<WindowFunction>, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut changed = by_length(&mut it.params.order_by, schema);
    for part in &mut it.params.partition_by {
        if is_interval(part, schema) {
            replace(part, |part| length(part, schema));
            changed = true;
        }
    }
    if matches!(it.fun.name(), "min" | "max")
        && it.params.args.iter().any(|arg| is_interval(arg, schema))
    {
        return Err(unsupported(&format!("{} of intervals over a window", it.fun.name())));
    }
    Ok(Transformed::new_transformed(Expr::WindowFunction(it), changed))
}

/// Sorts by lengths; says whether anything changed.
pub(super) fn by_length(order: &mut [Sort], schema: &DFSchema) -> bool {
    let mut changed = false;
    for sort in order {
        if is_interval(&sort.expr, schema) {
            replace(&mut sort.expr, |it| length(it, schema));
            changed = true;
        }
    }
    changed
}

/// Groups of rows with spans among their keys: by their lengths.
pub(super) fn grouped(it: Aggregate) -> Result<LogicalPlan> {
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = it;
    let of_input = Arc::clone(input.schema());
    if group_expr.iter().any(|it| matches!(it, Expr::GroupingSet(_))) {
        let groups = Aggregate::try_new(input, group_expr, aggr_expr)?;
        return average::of_groups(groups, &of_input);
    }
    let (mut keys, mut computed, mut columns) = (Vec::new(), aggr_expr, Vec::new());
    let mut shown = schema.iter();
    for key in group_expr {
        let Some((relation, field)) = shown.next() else { break };
        if !is_interval(&key, &of_input) {
            columns.push(column(relation, field.name()));
            keys.push(key);
            continue;
        }
        let (span, kept) = (format!("\u{1}span{}", keys.len()), format!("\u{1}kept{}", keys.len()));
        let key = key.unalias();
        keys.push(length(key.clone(), &of_input).alias(span));
        let one =
            AggregateFunction::new_udf(first_value_udaf(), vec![key], false, None, vec![], None);
        computed.push(Expr::AggregateFunction(one).alias(&kept));
        columns.push(column(None, &kept).alias_qualified(relation.cloned(), field.name()));
    }
    columns.extend(shown.map(|(relation, field)| column(relation, field.name())));
    let groups = average::of_groups(Aggregate::try_new(input, keys, computed)?, &of_input)?;
    Projection::try_new(columns, Arc::new(groups)).map(LogicalPlan::Projection)
}

/// Distinct rows with spans in them.
pub(super) fn distinct(it: Distinct) -> Result<LogicalPlan> {
    match it {
        Distinct::All(input) if has_interval(input.schema()) => {
            let keys = input.schema().columns().into_iter().map(Expr::Column).collect();
            grouped(Aggregate::try_new(input, keys, Vec::new())?)
        }
        other => Ok(LogicalPlan::Distinct(other)),
    }
}

/// Whether a column of `schema` is an interval.
pub(super) fn has_interval(schema: &DFSchema) -> bool {
    schema.fields().iter().any(|field| matches!(field.data_type(), DataType::Interval(_)))
}

pub(super) fn unsupported(what: &str) -> DataFusionError {
    to_engine(Error::unsupported(format!("{what} is not supported")))
}

fn is_interval(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Interval(_)))
}

fn column(relation: Option<&TableReference>, name: &str) -> Expr {
    Expr::Column(Column::new(relation.cloned(), name))
}

fn call(function: SpanFunction, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(function)), args))
}
