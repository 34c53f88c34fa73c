//! A subquery that is a value and asks something of the outer row, where it is no aggregate.
//!
//! # Why
//! `(SELECT name FROM station s WHERE s.id = m.station)` and `(SELECT … ORDER BY at DESC LIMIT 1)` are how
//! one looks something up, or finds what is newest; the engine joins aggregates alone. Of the one row that
//! there is its value is an aggregate, and so is the first of several.
//! What it guarantees: the value of the one row, NULL where there is none, of the first by its order with
//! `LIMIT 1`; `21000` where there are more, if an outer row asks for them, and not else.
//! What it does not: a LIMIT of other rows, and an OFFSET, stay as they are, and are refused.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::{is_null, nullif};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::functions::core::expr_fn::named_struct;
use datafusion::functions_aggregate::count::count;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, Sort};
use datafusion::logical_expr::{
    ColumnarValue, Expr, FetchType, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, SkipType, Subquery, Volatility, lit,
};
use kho_catalog::error::{Error, Kind};

use crate::errors::to_engine;

/// What the value is called in its subquery, where what is compared with the outer row stands beside it.
const NAME: &str = "\u{1}value";
/// Of the struct that a subquery gives, the value and how many rows have one.
const VALUE: &str = "value";
const ROWS: &str = "rows";

static SOLE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(Sole::default().into()));

/// `plan`, in which each such value is an aggregate.
pub(super) fn aggregated(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !crate::numeric::any(&plan, is_looked_up)? {
        return Ok(plan);
    }
    crate::numeric::rewrite(plan, &|expr, _| match expr {
        Expr::ScalarSubquery(it) if is_looked_up(&Expr::ScalarSubquery(it.clone())) => {
            value(it).map(Transformed::yes)
        }
        other => Ok(Transformed::no(other)),
    })
}

fn is_looked_up(expr: &Expr) -> bool {
    let Expr::ScalarSubquery(it) = expr else { return false };
    !it.outer_ref_columns.is_empty() && !is_aggregate(&it.subquery)
}

/// Whether the rows are one already, or that one where HAVING leaves it.
fn is_aggregate(rows: &LogicalPlan) -> bool {
    match rows {
        LogicalPlan::Projection(it) => is_aggregate(&it.input),
        LogicalPlan::Filter(it) => is_aggregate(&it.input),
        other => super::members::gives_one_row(other),
    }
}

fn value(subquery: Subquery) -> Result<Expr> {
    let plan = Arc::clone(&subquery.subquery);
    let with = |plan| Subquery { subquery: Arc::new(plan), ..subquery.clone() };
    if let LogicalPlan::Limit(limit) = plan.as_ref() {
        let is_one = matches!(limit.get_skip_type()?, SkipType::Literal(0))
            && matches!(limit.get_fetch_type()?, FetchType::Literal(Some(1)));
        return Ok(Expr::ScalarSubquery(match is_one {
            // Of one row the first is that.
            true if super::members::gives_one_row(&limit.input) => {
                with(LogicalPlan::clone(&limit.input))
            }
            true => with(first(&limit.input)?),
            false => subquery,
        }));
    }
    let only = Expr::ScalarSubquery(with(counted(&plan)?));
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&SOLE), vec![only])))
}

/// The first row's value, by the order that `rows` have.
fn first(rows: &LogicalPlan) -> Result<LogicalPlan> {
    let sorted = |plan: &LogicalPlan| match plan {
        LogicalPlan::Sort(it) if it.fetch.is_none() => Some(it.clone()),
        _ => None,
    };
    let (value, order, input) = match rows {
        LogicalPlan::Projection(it) if let Some(sort) = sorted(&it.input) => {
            (it.expr.first().cloned(), sort.expr, sort.input)
        }
        other => match sorted(other) {
            Some(sort) => (column(&sort.input), sort.expr, sort.input),
            None => (column(other), Vec::new(), Arc::new(other.clone())),
        },
    };
    let first = first_of(value, order)?;
    let plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(input));
    let plan = plan.aggregate(Vec::<Expr>::new(), vec![first])?.build()?;
    let value = column(&plan).map(|it| it.alias(NAME));
    LogicalPlanBuilder::from(plan).project(value)?.build()
}

/// Some row's value, and how many rows there are.
fn counted(rows: &LogicalPlan) -> Result<LogicalPlan> {
    let both = vec![first_of(column(rows), Vec::new())?, count(lit(1_i64))];
    let plan =
        LogicalPlanBuilder::from(rows.clone()).aggregate(Vec::<Expr>::new(), both)?.build()?;
    let mut columns = plan.schema().columns().into_iter().map(Expr::Column);
    let (Some(value), Some(rows_of_it)) = (columns.next(), columns.next()) else {
        return internal_err!("two aggregates have other columns");
    };
    let both = named_struct(vec![lit(VALUE), value, lit(ROWS), rows_of_it]);
    LogicalPlanBuilder::from(plan).project([both.alias(NAME)])?.build()
}

fn column(plan: &LogicalPlan) -> Option<Expr> {
    plan.schema().columns().into_iter().next().map(Expr::Column)
}

fn first_of(value: Option<Expr>, order: Vec<Sort>) -> Result<Expr> {
    let Some(value) = value else {
        return internal_err!("a subquery that is a value has no column");
    };
    let (value, function) = (vec![value.unalias()], first_value_udaf());
    let first = AggregateFunction::new_udf(function, value, false, None, order, None);
    Ok(Expr::AggregateFunction(first))
}

/// Of a value and the number of rows that have one the value; `21000` where there are more.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Sole {
    signature: Signature,
}

impl Default for Sole {
    fn default() -> Self {
        Sole { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Sole {
    fn name(&self) -> &str {
        "sole"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, of: &[DataType]) -> Result<DataType> {
        match of.first() {
            Some(DataType::Struct(fields)) if let Some(value) = fields.first() => {
                Ok(value.data_type().clone())
            }
            _ => internal_err!("what a subquery gives is no value and a number"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match args.arg_fields.first().map(|it| it.data_type()) {
            Some(DataType::Struct(fields)) if let Some(value) = fields.first() => {
                Ok(Arc::new(Field::clone(value).with_name(self.name()).with_nullable(true)))
            }
            _ => internal_err!("what a subquery gives is no value and a number"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(of)] => sole(of).map(ColumnarValue::Array),
            [ColumnarValue::Scalar(of)] => {
                let value = sole(&of.to_array()?)?;
                ScalarValue::try_from_array(&value, 0).map(ColumnarValue::Scalar)
            }
            _ => internal_err!("a value is of one subquery"),
        }
    }
}

fn sole(of: &ArrayRef) -> Result<ArrayRef> {
    let Some(of) = of.as_struct_opt() else {
        return internal_err!("what a subquery gives is no struct");
    };
    let (Some(value), Some(rows)) = (of.column_by_name(VALUE), of.column_by_name(ROWS)) else {
        return internal_err!("what a subquery gives is no value and a number");
    };
    let Some(rows) = rows.as_any().downcast_ref::<Int64Array>() else {
        return internal_err!("a number of rows is none");
    };
    let missing: BooleanArray = is_null(of)?;
    let is_many = |(rows, missing): (Option<i64>, Option<bool>)| {
        missing == Some(false) && rows.is_some_and(|rows| rows > 1)
    };
    match rows.iter().zip(&missing).any(is_many) {
        true => Err(to_engine(Error::new(
            Kind::CardinalityViolation,
            "more than one row returned by a subquery used as an expression",
        ))),
        false => Ok(nullif(value, &missing)?),
    }
}
