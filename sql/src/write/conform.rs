//! Rows made to fit a table, or refused.
//!
//! What it guarantees: after [`Conformer::conform`] a batch has exactly the table's schema; no
//! value was changed but by the cast to the column's type, which fails rather than lose anything;
//! `NOT NULL` (`23502`), lengths (`22001`), uuid and json syntax (`22P02`) and `CHECK` (`23514`)
//! hold. Text stays byte for byte.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, is_null, nullif};
use arrow::datatypes::{DataType, Date32Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::FormatOptions;
use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{ColumnarValue, ExprSchemable};
use datafusion::physical_expr::PhysicalExpr;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::Relation;
use kho_catalog::types::Type;

use crate::bind::constant::expression_over;
use crate::errors::{from_arrow, from_engine};
use crate::input::calendar::{DAY_MICROS, FIRST_DAY, out_of_range};
use crate::input::zone::Zone;
use crate::input::{check_documents, is_text, read_column, zone_of};
use crate::text::differs;
use crate::times::converted;

/// A relation's rules, ready to be applied to batches.
pub(crate) struct Conformer {
    relation: String,
    schema: SchemaRef,
    /// Where a time without an offset was written.
    zone: Zone,
    checks: Vec<(String, Arc<dyn PhysicalExpr>)>,
}

impl Conformer {
    /// For `relation`, whose rows are stored with `schema`.
    pub(crate) fn new(
        session: &SessionState,
        relation: &Relation,
        schema: &SchemaRef,
    ) -> Result<Conformer> {
        let plan_schema = DFSchema::try_from(schema.as_ref().clone()).map_err(from_engine)?;
        let mut checks = Vec::new();
        for check in relation.table().map(|table| table.checks.as_slice()).unwrap_or_default() {
            let expr = crate::parse::expression(check.expression.required()?)?;
            let expr = expression_over(session, &expr, &plan_schema)?;
            let expr = expr.cast_to(&DataType::Boolean, &plan_schema).map_err(from_engine)?;
            let expr = coerced(session, expr, &plan_schema)?;
            let physical = session.create_physical_expr(expr, &plan_schema).map_err(from_engine)?;
            checks.push((check.name.clone(), physical));
        }
        let zone = zone_of(session.config_options())?;
        Ok(Conformer { relation: relation.name.clone(), schema: schema.clone(), zone, checks })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// `batch` with the table's schema; columns are matched by place.
    pub(crate) fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if batch.num_columns() != self.schema.fields().len() {
            return Err(Error::internal("a row has another number of columns than its table"));
        }
        let columns = (self.schema.fields().iter().zip(batch.columns()))
            .map(|(field, column)| self.column(field, column))
            .collect::<Result<Vec<_>>>()?;
        let options =
            arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| from_arrow(&error))?;
        self.check(&batch)?;
        Ok(batch)
    }

    fn column(&self, field: &arrow::datatypes::Field, column: &ArrayRef) -> Result<ArrayRef> {
        let column = match is_text(column.data_type()) && !is_text(field.data_type()) {
            true => read_column(column, field, self.zone)?,
            false
                if column.data_type().is_temporal()
                    || (differs(column.data_type()) && is_text(field.data_type())) =>
            {
                converted(column, field.data_type(), self.zone)?
            }
            false => cast(column, field.data_type())?,
        };
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(Error::new(
                Kind::NotNullViolation,
                format!(
                    "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                    field.name(),
                    self.relation
                ),
            ));
        }
        check_days(&column)?;
        match Type::from_field(field) {
            Some(Type::Varchar(length)) if is_within(&column, length) => Ok(column),
            Some(Type::Varchar(_) | Type::Uuid) => read_column(&column, field, self.zone),
            Some(Type::Json) => check_documents(&column).map(|()| column),
            _ => Ok(column),
        }
    }

    fn check(&self, batch: &RecordBatch) -> Result<()> {
        for (name, check) in &self.checks {
            let holds = match check.evaluate(batch).map_err(from_engine)? {
                ColumnarValue::Array(array) => {
                    // NULL is neither: PostgreSQL lets such a row pass.
                    array.as_boolean().false_count() == 0
                }
                ColumnarValue::Scalar(value) => {
                    value != datafusion::scalar::ScalarValue::Boolean(Some(false))
                        || batch.num_rows() == 0
                }
            };
            if !holds {
                return Err(Error::new(
                    Kind::CheckViolation,
                    format!(
                        "new row for relation \"{}\" violates check constraint \"{name}\"",
                        self.relation
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Delta tells of days by their dates, in statistics too, and there are none here after the year 262142;
/// before PostgreSQL's first one none could be read as text again.
fn check_days(column: &ArrayRef) -> Result<()> {
    match column.data_type() {
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>();
            let ends = [arrow::compute::min(days), arrow::compute::max(days)];
            let is_date =
                |day| i64::from(day) >= FIRST_DAY && Date32Type::to_naive_date_opt(day).is_some();
            match ends.into_iter().flatten().all(is_date) {
                true => Ok(()),
                false => Err(out_of_range("date")),
            }
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let first = arrow::compute::min(column.as_primitive::<TimestampMicrosecondType>());
            match first.is_none_or(|at| at >= FIRST_DAY * DAY_MICROS) {
                true => Ok(()),
                false => Err(out_of_range("timestamp")),
            }
        }
        // What lies beneath a NULL is nobody's value.
        DataType::Struct(_) if has_days(column.data_type()) => {
            let missing = is_null(column).map_err(|error| from_arrow(&error))?;
            column.as_struct().columns().iter().try_for_each(|of| {
                let there = nullif(of, &missing).map_err(|error| from_arrow(&error))?;
                check_days(&there)
            })
        }
        DataType::List(of) if has_days(of.data_type()) => {
            let lists = column.as_list::<i32>();
            match lists.null_count() {
                0 => check_days(lists.values()),
                _ => lists.iter().flatten().try_for_each(|list| check_days(&list)),
            }
        }
        _ => Ok(()),
    }
}

fn has_days(of: &DataType) -> bool {
    match of {
        DataType::Date32 | DataType::Timestamp(_, _) => true,
        DataType::List(of) => has_days(of.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_days(field.data_type())),
        _ => false,
    }
}

/// An expression as the analyzer leaves it: types coerced, arithmetic checked.
pub(crate) fn coerced(
    session: &SessionState,
    expr: datafusion::logical_expr::Expr,
    schema: &DFSchema,
) -> Result<datafusion::logical_expr::Expr> {
    use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
    let empty = LogicalPlan::EmptyRelation(datafusion::logical_expr::EmptyRelation {
        produce_one_row: false,
        schema: Arc::new(schema.clone()),
    });
    let plan = LogicalPlanBuilder::from(empty)
        .project([expr.alias("value")])
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_engine)?;
    let plan = session
        .analyzer()
        .execute_and_check(plan, session.config_options(), |_, _| {})
        .map_err(from_engine)?;
    match plan.expressions().into_iter().next() {
        Some(expr) => Ok(expr.unalias()),
        None => Err(Error::internal("an expression was lost")),
    }
}

/// The cast of an assignment: it fails rather than give NULL or a wrapped number.
pub(crate) fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if column.data_type() == to {
        return Ok(column.clone());
    }
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    if let (true, DataType::Decimal128(precision, scale)) = (column.data_type().is_floating(), to) {
        return crate::copy::decimals(column, *precision, *scale);
    }
    let column = match (column.data_type(), to) {
        // Arrow cuts the fraction off; an assignment rounds.
        (DataType::Float64, _) if to.is_integer() => Arc::new(
            column
                .as_primitive::<arrow::datatypes::Float64Type>()
                .unary::<_, arrow::datatypes::Float64Type>(f64::round_ties_even),
        ),
        (DataType::Decimal128(precision, scale), _) if to.is_integer() && *scale > 0 => {
            cast_with_options(column, &DataType::Decimal128(*precision, 0), &options)
                .map_err(|error| from_arrow(&error))?
        }
        _ => column.clone(),
    };
    cast_with_options(&column, to, &options).map_err(|error| from_arrow(&error))
}

fn is_within(column: &ArrayRef, length: u32) -> bool {
    let limit = usize::try_from(length).unwrap_or(usize::MAX);
    let too_long = |text: &str| text.len() > limit && text.chars().count() > limit;
    !column.as_string::<i32>().iter().flatten().any(too_long)
}
