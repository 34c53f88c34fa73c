//! Days, clocks and instants that meet: which type they have together.
//!
//! What it guarantees: PostgreSQL's: beside an instant all are instants, and a day beside a clock is
//! its midnight. It is made so when the plan is made, so that what a client is told of a column is
//! what comes. `date_trunc` of a day is an instant, and `to_timestamp` gives one.
//!
//! # Why
//! The engine would compare a day with an instant by nanoseconds, which have three centuries, and
//! drop the zone.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{Case, Cast, ScalarFunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Values,
};
use datafusion::scalar::ScalarValue;

use super::function::What;
use super::{CLOCK, call, instants};
use crate::input::compares;
use crate::input::zone::Zone;
use crate::numeric;

/// What a time says, the more the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Says {
    Day,
    Clock,
    Instant,
}

impl Says {
    fn of_type(self) -> DataType {
        match self {
            Says::Day => DataType::Date32,
            Says::Clock => CLOCK,
            Says::Instant => instants(),
        }
    }
}

/// The plan with one type for times that meet in an expression.
pub(crate) fn beside(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Values(values) => of_values(values),
        other => Ok(Transformed::no(other)),
    })?;
    numeric::rewrite(plan.data, &of_expression)
}

fn of_expression(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr = match expr {
        Expr::ScalarFunction(call) if call.name() == "nullif" => nullif(call, schema)?,
        Expr::ScalarFunction(call) if call.name() == "to_timestamp" => to_timestamp(call, schema)?,
        other => other,
    };
    let mut changed = false;
    match &mut expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if meets(*op) => {
            changed |= together(vec![left.as_mut(), right.as_mut()], schema);
        }
        Expr::Between(it) => {
            let all = vec![it.expr.as_mut(), it.low.as_mut(), it.high.as_mut()];
            changed |= together(all, schema);
        }
        Expr::InList(it) => {
            let all = std::iter::once(it.expr.as_mut()).chain(&mut it.list);
            changed |= together(all.collect(), schema);
        }
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let mut results: Vec<&mut Expr> = else_expr.as_deref_mut().into_iter().collect();
            let mut compared: Vec<&mut Expr> = expr.as_deref_mut().into_iter().collect();
            let has_operand = !compared.is_empty();
            for (when, then) in when_then_expr {
                results.push(then.as_mut());
                if has_operand {
                    compared.push(when.as_mut());
                }
            }
            changed |= together(results, schema) | together(compared, schema);
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) => match func.name() {
            "coalesce" | "greatest" | "least" | "make_array" => {
                changed |= together(args.iter_mut().collect(), schema);
            }
            "date_trunc" => {
                if let Some(day) = args.get_mut(1)
                    && says(day, schema) == Some(Says::Day)
                {
                    cast(day, Says::Instant);
                    changed = true;
                }
            }
            _ => {}
        },
        _ => {}
    }
    Ok(Transformed::new(expr, changed, TreeNodeRecursion::Continue))
}

fn meets(op: Operator) -> bool {
    compares(op) || op == Operator::Minus
}

/// Brings times among `all` to the type of the one that says most; whether any had to be.
fn together(all: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    let said: Vec<_> = all.iter().map(|it| says(it, schema)).collect();
    let Some(most) = said.iter().flatten().copied().max() else { return false };
    let mut changed = false;
    for (one, said) in all.into_iter().zip(said) {
        if said.is_some_and(|said| said < most) {
            cast(one, most);
            changed = true;
        }
    }
    changed
}

fn says(expr: &Expr, schema: &DFSchema) -> Option<Says> {
    expr.get_type(schema).ok().and_then(|of| said_by(&of))
}

fn said_by(of: &DataType) -> Option<Says> {
    match of {
        DataType::Date32 | DataType::Date64 => Some(Says::Day),
        DataType::Timestamp(_, None) => Some(Says::Clock),
        DataType::Timestamp(_, Some(_)) => Some(Says::Instant),
        _ => None,
    }
}

fn cast(expr: &mut Expr, to: Says) {
    let time = std::mem::take(expr);
    *expr = Expr::Cast(Cast::new(Box::new(time), to.of_type()));
}

/// It compares as `=` does, and gives what its first argument is: the engine gives what both are.
fn nullif(call: ScalarFunction, schema: &DFSchema) -> Result<Expr> {
    match call.args.as_slice() {
        [one, other]
            if says(one, schema).is_some()
                && says(other, schema).is_some_and(|it| Some(it) != says(one, schema)) =>
        {
            let of = one.get_type(schema)?;
            let null = Expr::Literal(ScalarValue::try_from(&of)?, None);
            let mut pair = [one.clone(), other.clone()];
            together(pair.iter_mut().collect(), schema);
            let [left, right] = pair;
            Ok(Expr::Case(Case {
                expr: None,
                when_then_expr: vec![(Box::new(left.eq(right)), Box::new(null))],
                else_expr: Some(Box::new(one.clone())),
            }))
        }
        _ => Ok(Expr::ScalarFunction(call)),
    }
}

/// Of a number it is the instant so many seconds after the epoch: the engine takes those for what a
/// clock in the session's zone showed.
fn to_timestamp(made: ScalarFunction, schema: &DFSchema) -> Result<Expr> {
    let of = made.args.first().map(|it| it.get_type(schema)).transpose();
    match (made.args.as_slice(), of) {
        ([seconds], Ok(Some(of))) if of.is_numeric() && of != DataType::Float64 => {
            let seconds = Cast::new(Box::new(seconds.clone()), DataType::Float64);
            Ok(call(What::OfEpoch, Zone::Utc, vec![Expr::Cast(seconds)]))
        }
        ([seconds], Ok(Some(DataType::Float64))) => {
            Ok(call(What::OfEpoch, Zone::Utc, vec![seconds.clone()]))
        }
        _ => Ok(Expr::Cast(Cast::new(Box::new(Expr::ScalarFunction(made)), instants()))),
    }
}

/// The rows of `VALUES`. Where a column has a day, the engine has cast it to nanoseconds by now: a
/// type that is nobody else's.
fn of_values(values: Values) -> Result<Transformed<LogicalPlan>> {
    let finest = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let Values { schema, mut values } = values;
    let mut fields = Vec::new();
    let mut changed = false;
    for (place, (qualifier, field)) in schema.iter().enumerate() {
        let mut field = Arc::clone(field);
        if *field.data_type() == finest {
            let column = values.iter_mut().filter_map(|row| row.get_mut(place));
            let mut given: Vec<&mut Expr> = column.map(|it| uncast(it, &finest)).collect();
            let said = given.iter().filter_map(|it| says(it, &schema)).max();
            if let Some(most) = said {
                given.iter_mut().for_each(|it| cast(it, most));
                field = Arc::new(field.as_ref().clone().with_data_type(most.of_type()));
                changed = true;
            }
        }
        fields.push((qualifier.cloned(), field));
    }
    let schema = DFSchema::new_with_metadata(fields, schema.metadata().clone())?;
    let values = LogicalPlan::Values(Values { schema: Arc::new(schema), values });
    Ok(Transformed::new(values, changed, TreeNodeRecursion::Continue))
}

/// A value as it was before it was cast to `to`.
fn uncast<'a>(expr: &'a mut Expr, to: &DataType) -> &'a mut Expr {
    if matches!(expr, Expr::Cast(cast) if cast.field.data_type() == to)
        && let Expr::Cast(cast) = std::mem::take(expr)
    {
        *expr = *cast.expr;
    }
    expr
}

/// The parts of a `UNION` with one type for times that meet in a column.
pub(crate) fn of_union(inputs: &[Arc<LogicalPlan>]) -> Result<Vec<Arc<LogicalPlan>>> {
    let said_at = |input: &LogicalPlan, place: usize| {
        input.schema().fields().get(place).and_then(|field| said_by(field.data_type()))
    };
    let columns = inputs.first().map_or(0, |it| it.schema().fields().len());
    let most = |place| inputs.iter().filter_map(|it| said_at(it, place)).max();
    let most: Vec<_> = (0..columns).map(most).collect();
    let is_less = |input: &LogicalPlan| {
        let mut places = (0..).zip(&most);
        places.any(|(place, most)| said_at(input, place).is_some_and(|it| Some(it) < *most))
    };
    let raised = |input: &Arc<LogicalPlan>| {
        if !is_less(input) {
            return Ok(Arc::clone(input));
        }
        let columns = input.schema().iter().zip(&most).map(|((relation, field), most)| {
            let mut column = Expr::Column(Column::new(relation.cloned(), field.name()));
            match (said_by(field.data_type()), most) {
                (Some(said), Some(most)) if said < *most => {
                    cast(&mut column, *most);
                    column.alias_qualified(relation.cloned(), field.name())
                }
                _ => column,
            }
        });
        let columns: Vec<_> = columns.collect();
        let plan = LogicalPlanBuilder::from(input.as_ref().clone()).project(columns)?.build()?;
        Ok(Arc::new(plan))
    };
    inputs.iter().map(raised).collect()
}
