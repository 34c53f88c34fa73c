//! Expressions that must be constant: versions, times, arguments of procedures, defaults.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use chrono::DateTime;
use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{ColumnarValue, Expr, ExprSchemable};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::scalar::ScalarValue;
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;
use sqlparser::ast;

use super::context::Context;
use super::names::Sources;
use crate::errors::from_engine;
use crate::scope::Scope;
use crate::write::conform::coerced;

/// The value of `expression` as `of`.
///
/// # Errors
/// `42703` where it names a column, and whatever computing it raises.
pub(crate) fn constant(
    _scope: &Scope,
    session: &SessionState,
    expression: &ast::Expr,
    of: &DataType,
) -> Result<ScalarValue> {
    let schema = DFSchema::empty();
    let expr = expression_over(session, expression, &schema)?;
    let expr = expr.cast_to(of, &schema).map_err(from_engine)?;
    let expr = coerced(session, expr, &schema)?;
    computed(session, expr)
}

/// The value of a typed expression that names no column.
///
/// # Errors
/// Whatever computing it raises.
pub(crate) fn computed(session: &SessionState, expr: Expr) -> Result<ScalarValue> {
    let schema = Arc::new(DFSchema::empty());
    let context = SimplifyContext::builder()
        .with_schema(Arc::clone(&schema))
        .with_config_options(Arc::clone(session.config_options()))
        .with_query_execution_start_time(session.execution_props().query_execution_start_time)
        .build();
    // `now()` has a value only for the simplifier.
    let expr = ExprSimplifier::new(context).simplify(expr).map_err(from_engine)?;
    let physical = session.create_physical_expr(expr, &schema).map_err(from_engine)?;
    evaluate(physical.as_ref())
}

/// The value of an expression that needs no row.
pub(super) fn evaluate(physical: &dyn PhysicalExpr) -> Result<ScalarValue> {
    let row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(1)),
    )
    .map_err(|error| crate::errors::from_arrow(&error))?;
    match physical.evaluate(&row).map_err(from_engine)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0).map_err(from_engine),
    }
}

/// A text, or `None` for NULL.
pub(crate) fn text(
    scope: &Scope,
    session: &SessionState,
    expression: &ast::Expr,
) -> Result<Option<String>> {
    match constant(scope, session, expression, &DataType::Utf8)? {
        ScalarValue::Utf8(value) => Ok(value),
        _ => Err(Error::internal("a constant text is not a text")),
    }
}

/// A point in time in milliseconds since the epoch; without a zone it is in the session's.
pub(crate) fn instant(
    scope: &Scope,
    session: &SessionState,
    expression: &ast::Expr,
) -> Result<i64> {
    let of = Type::TimestampTz.to_arrow();
    match constant(scope, session, expression, &of)? {
        ScalarValue::TimestampMicrosecond(Some(micros), _) => Ok(micros.div_euclid(1000)),
        _ => Err(Error::new(Kind::InvalidParameterValue, "a point in time is needed, not NULL")),
    }
}

/// The instant that a setting's text names; a number is refused, it would be a guess.
pub(crate) fn instant_of_text(scope: &Scope, session: &SessionState, text: &str) -> Result<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    let literal = ast::Expr::Value(ast::Value::SingleQuotedString(text.to_owned()).into());
    instant(scope, session, &literal)
}

/// A logical expression over columns of `schema`; it may name no table.
pub(crate) fn expression_over(
    session: &SessionState,
    expression: &ast::Expr,
    schema: &DFSchema,
) -> Result<Expr> {
    let mut expression = expression.clone();
    super::spelling::respell(&mut expression)?;
    let context = Context::new(session, Sources::new());
    let planner = SqlToRel::new_with_options(&context, super::parser_options(&context));
    planner.sql_to_expr(expression, schema, &mut PlannerContext::new()).map_err(from_engine)
}
