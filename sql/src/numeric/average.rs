//! Averages of exact numbers: the sum by the count.
//!
//! # Why
//! The engine averages integers as floats, and cuts the average of decimals after four more digits.
//! PostgreSQL's are exact numbers of sixteen digits behind the point, rounded. A sum and a count that
//! stand beside the average are made once for both.
//! What it guarantees: the columns keep their names and places; no average overflows.
//! What it does not: PostgreSQL shows fewer digits behind the point of large numbers; averages of
//! floats and of spans of time are the engine's.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, Result, plan_err};
use datafusion::functions_aggregate::{count::count_udaf, sum::sum_udaf};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::COUNT_STAR_EXPANSION;
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, Cast, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Window,
    WindowFunctionDefinition,
};

use super::digits;

/// Digits behind the point, where there is room for them.
const SCALE: u8 = 16;
/// The column that the engine adds to several groupings.
const GROUPING: &str = Aggregate::INTERNAL_GROUPING_ID;
/// The most digits of a number.
const DIGITS: u8 = 38;

/// Groups whose averages are made of sums and counts; `schema` is that of their rows.
pub(super) fn of_groups(aggregate: Aggregate, schema: &DFSchema) -> Result<LogicalPlan> {
    let Some((computed, made)) = divided(&aggregate.aggr_expr, schema)? else {
        return Ok(LogicalPlan::Aggregate(aggregate));
    };
    let told = Arc::clone(&aggregate.schema);
    let input = Aggregate::try_new(aggregate.input, aggregate.group_expr, computed)?;
    shown(LogicalPlan::Aggregate(input), &told, &made)
}

/// The same over frames.
pub(super) fn of_window(window: Window, schema: &DFSchema) -> Result<LogicalPlan> {
    let Some((computed, made)) = divided(&window.window_expr, schema)? else {
        return Ok(LogicalPlan::Window(window));
    };
    let told = Arc::clone(&window.schema);
    let input = Window::try_new(computed, window.input)?;
    shown(LogicalPlan::Window(input), &told, &made)
}

/// What a column is made of: places among what is computed.
enum Made {
    Plain(usize),
    Average { sum: usize, count: usize, result: DataType },
}

/// What is to be computed in place of `exprs`, and how these are made of it; `None` where there is no
/// average of exact numbers among them.
fn divided(exprs: &[Expr], schema: &DFSchema) -> Result<Option<(Vec<Expr>, Vec<Made>)>> {
    let results: Vec<Option<DataType>> = exprs.iter().map(|it| averaged(it, schema)).collect();
    if results.iter().all(Option::is_none) {
        return Ok(None);
    }
    let others = exprs.iter().zip(&results).filter(|(_, result)| result.is_none());
    let mut computed: Vec<Expr> = others.map(|(expr, _)| expr.clone()).collect();
    let (mut made, mut plain) = (Vec::new(), 0..);
    for (expr, result) in exprs.iter().zip(results) {
        made.push(match result {
            None => Made::Plain(plain.next().unwrap_or_default()),
            Some(result) => {
                let sum = place(&mut computed, sum_of(bare(expr), schema)?);
                let count = count_of(bare(expr), schema)?;
                let same = computed.iter().position(|it| counts_rows(it, &count));
                let count = same.unwrap_or_else(|| place(&mut computed, count));
                Made::Average { sum, count, result }
            }
        });
    }
    Ok(Some((computed, made)))
}

/// What the average that `expr` is has for a type.
fn averaged(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    let (name, args) = match bare(expr) {
        Expr::AggregateFunction(it) => (it.func.name(), &it.params.args),
        Expr::WindowFunction(it) => (it.fun.name(), &it.params.args),
        _ => return None,
    };
    let [arg] = args.as_slice() else { return None };
    if name == "avg" { result(&arg.get_type(schema).ok()?) } else { None }
}

fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => bare(&alias.expr),
        other => other,
    }
}

/// Where `expr` is computed already, or is from now on.
fn place(computed: &mut Vec<Expr>, expr: Expr) -> usize {
    if let Some(place) = computed.iter().position(|it| *bare(it) == expr) {
        return place;
    }
    // Casts are not in the engine's names: two sums may have one.
    let name = expr.schema_name().to_string();
    let taken = computed.iter().any(|it| it.schema_name().to_string() == name);
    let place = computed.len();
    computed.push(if taken { expr.alias(format!("{name} {place}")) } else { expr });
    place
}

fn sum_of(average: &Expr, schema: &DFSchema) -> Result<Expr> {
    let sum = with(average, sum_udaf(), |arg| arg);
    Ok(super::wide_sum(sum?, schema).data)
}

/// The count of the same rows. Where no value is NULL it is that of all.
fn count_of(average: &Expr, schema: &DFSchema) -> Result<Expr> {
    let is_distinct = match average {
        Expr::AggregateFunction(it) => it.params.distinct,
        Expr::WindowFunction(it) => it.params.distinct,
        _ => false,
    };
    with(average, count_udaf(), |arg| {
        let never_null = !is_distinct && arg.nullable(schema).is_ok_and(|nullable| !nullable);
        if never_null { Expr::Literal(COUNT_STAR_EXPANSION, None) } else { arg }
    })
}

/// The same call of another function.
fn with(
    average: &Expr,
    function: Arc<AggregateUDF>,
    arg: impl FnOnce(Expr) -> Expr,
) -> Result<Expr> {
    match average.clone() {
        Expr::AggregateFunction(AggregateFunction { mut params, .. }) => {
            params.args = params.args.pop().map(arg).into_iter().collect();
            Ok(Expr::AggregateFunction(AggregateFunction { func: function, params }))
        }
        Expr::WindowFunction(mut window) => {
            window.fun = WindowFunctionDefinition::AggregateUDF(function);
            window.params.args = window.params.args.pop().map(arg).into_iter().collect();
            Ok(Expr::WindowFunction(window))
        }
        other => plan_err!("{other} averages nothing"),
    }
}

/// Whether `expr` counts the rows that `count` counts, all of them: `count(1)` does what `count(*)` does.
fn counts_rows(expr: &Expr, count: &Expr) -> bool {
    let is_value = |of: &Expr| matches!(of, Expr::Literal(value, _) if !value.is_null());
    let (Expr::AggregateFunction(one), Expr::AggregateFunction(other)) = (bare(expr), count) else {
        return false;
    };
    one.func == other.func
        && one.params.filter == other.params.filter
        && one.params.distinct == other.params.distinct
        && [one, other].into_iter().all(|it| it.params.args.iter().all(is_value))
}

/// The columns that were told of, made of what `input` computes behind those that it passes on.
fn shown(input: LogicalPlan, told: &DFSchema, made: &[Made]) -> Result<LogicalPlan> {
    let passed = told.fields().len().saturating_sub(made.len());
    let column = |place: usize| {
        let (relation, field) = input.schema().qualified_field(place);
        (Expr::Column(Column::new(relation.cloned(), field.name())), field.data_type().clone())
    };
    let computed = |place: usize| column(passed + place);
    let passed_on = (0..passed).map(|place| column(place).0);
    let columns = passed_on.chain(made.iter().map(|made| match made {
        Made::Plain(place) => computed(*place).0,
        Made::Average { sum, count, result } => {
            // Where nothing is counted there is no sum either.
            let exact = |(expr, of): (Expr, DataType)| match of.is_integer() {
                true => Expr::Cast(Cast::new(Box::new(expr), DataType::Decimal128(19, 0))),
                false => expr,
            };
            digits::divided(exact(computed(*sum)), exact(computed(*count)), result.clone())
        }
    }));
    let named = columns.zip(told.iter()).map(|(column, (relation, field))| match &column {
        Expr::Column(it) if it.relation.as_ref() == relation && it.name == *field.name() => column,
        _ => column.alias_qualified(relation.cloned(), field.name()),
    });
    // Whatever asks which of several groupings a row is of asks the groups themselves.
    let is_asked = |it: &Expr| !matches!(it, Expr::Column(it) if it.name == GROUPING);
    let named: Vec<Expr> = named.filter(is_asked).collect();
    LogicalPlanBuilder::from(input).project(named)?.build()
}

/// The type of an average of values of the type `of`: it is between them, and so has no more digits
/// before the point.
fn result(of: &DataType) -> Option<DataType> {
    let (whole, scale) = match of {
        DataType::Int64 | DataType::UInt64 => (20, 0),
        of if of.is_integer() => (10, 0),
        DataType::Decimal128(precision, scale) => {
            let scale = u8::try_from(*scale).ok()?;
            (precision.checked_sub(scale)?, scale)
        }
        _ => return None,
    };
    let scale = scale.max(SCALE.min(DIGITS.saturating_sub(whole)));
    Some(DataType::Decimal128(whole.saturating_add(scale).min(DIGITS), scale.cast_signed()))
}
