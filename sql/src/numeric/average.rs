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

use arrow::array::{Array, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, i256};
use datafusion::common::{Column, DFSchema, Result, exec_err, plan_err};
use datafusion::functions_aggregate::{count::count_udaf, sum::sum_udaf};
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion::logical_expr::utils::COUNT_STAR_EXPANSION;
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan,
    LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility, Window,
    WindowFunctionDefinition,
};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind};

use crate::errors::{from_arrow, to_engine};

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
    Average { sum: usize, count: usize, result: Average },
}

/// What is to be computed in place of `exprs`, and how these are made of it; `None` where there is no
/// average of exact numbers among them.
fn divided(exprs: &[Expr], schema: &DFSchema) -> Result<Option<(Vec<Expr>, Vec<Made>)>> {
    let results: Vec<Option<Average>> = exprs.iter().map(|it| averaged(it, schema)).collect();
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
fn averaged(expr: &Expr, schema: &DFSchema) -> Option<Average> {
    let (name, args) = match bare(expr) {
        Expr::AggregateFunction(it) => (it.func.name(), &it.params.args),
        Expr::WindowFunction(it) => (it.fun.name(), &it.params.args),
        _ => return None,
    };
    let [arg] = args.as_slice() else { return None };
    if name == "avg" { Average::of(&arg.get_type(schema).ok()?) } else { None }
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
    let mut never_null = false;
    let count = with(average, count_udaf(), |arg| {
        never_null = !is_distinct && arg.nullable(schema).is_ok_and(|nullable| !nullable);
        if never_null { Expr::Literal(COUNT_STAR_EXPANSION, None) } else { arg }
    });
    count
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
            let (sum, of) = computed(*sum);
            let exact = DataType::Decimal128(19, 0);
            let sum =
                if of.is_integer() { Expr::Cast(Cast::new(Box::new(sum), exact)) } else { sum };
            let args = vec![sum, computed(*count).0];
            Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(result.clone().into()), args))
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

/// A sum by a count, rounded half away from zero; NULL where the count is 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Average {
    precision: u8,
    scale: u8,
    signature: Signature,
}

impl Average {
    /// Of values of the type `of`: it is between them, and so has no more digits before the point.
    fn of(of: &DataType) -> Option<Average> {
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
        let signature = Signature::any(2, Volatility::Immutable);
        Some(Average { precision: whole.saturating_add(scale).min(DIGITS), scale, signature })
    }
}

impl ScalarUDFImpl for Average {
    fn name(&self) -> &str {
        "average"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(self.precision, self.scale.cast_signed()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|it| matches!(it, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [sums, counts] = arrays.as_slice() else {
            return exec_err!("an average is of a sum and a count");
        };
        let DataType::Decimal128(_, scale) = sums.data_type() else {
            return exec_err!("an average is of exact numbers");
        };
        let more = i32::from(self.scale) - i32::from(*scale);
        let Some(power) = u32::try_from(more).ok().and_then(|more| 10_i128.checked_pow(more))
        else {
            return exec_err!("an average has no fewer digits than its sum");
        };
        let pairs =
            sums.as_primitive::<Decimal128Type>().iter().zip(counts.as_primitive::<Int64Type>());
        let averages: Decimal128Array = pairs
            .map(|(sum, count)| match (sum, count) {
                (Some(sum), Some(count)) if count > 0 => quotient(sum, power, count).map(Some),
                _ => Ok(None),
            })
            .collect::<Result<_>>()?;
        let averages = averages
            .with_precision_and_scale(self.precision, self.scale.cast_signed())
            .map_err(|error| to_engine(from_arrow(&error)))?;
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&averages, 0)?),
            false => ColumnarValue::Array(Arc::new(averages)),
        })
    }
}

/// `sum * power / count`, rounded half away from zero.
fn quotient(sum: i128, power: i128, count: i64) -> Result<i128> {
    let count = i128::from(count);
    if let Some(all) = sum.checked_mul(power) {
        let rest = (all % count).unsigned_abs();
        let away = if rest >= count.unsigned_abs() - rest { all.signum() } else { 0 };
        return Ok(all / count + away);
    }
    let (all, count) = (i256::from_i128(sum) * i256::from_i128(power), i256::from_i128(count));
    let rest = (all % count).wrapping_abs();
    let away = if rest >= count - rest { i256::from_i128(sum.signum()) } else { i256::ZERO };
    let result = (all / count).wrapping_add(away).to_i128();
    result.ok_or_else(|| {
        to_engine(Error::new(Kind::NumericOutOfRange, "value overflows numeric format"))
    })
}
