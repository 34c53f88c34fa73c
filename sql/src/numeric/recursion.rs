//! Recursive queries: both terms have the types of the first, and so has what the second reads.
//!
//! On failure: `42804` where the second term would give numbers that the first has no room for, as
//! PostgreSQL refuses them; `0A000` where it would give numerics of more digits.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::expr_rewriter::coerce_plan_expr_for_schema;
use datafusion::logical_expr::logical_plan::{RecursiveQuery, TableScanBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, TableScan};
use kho_catalog::error::{Error, Kind};
use kho_catalog::types::Type;

use super::common::chosen;
use super::typed::Pass;
use crate::errors::to_engine;

pub(super) fn typed(pass: &mut Pass, query: RecursiveQuery) -> Result<LogicalPlan> {
    let RecursiveQuery { name, static_term, recursive_term, is_distinct, .. } = query;
    let taken_for = Arc::clone(static_term.schema());
    let first = pass.node(Arc::unwrap_or_clone(static_term))?;
    let read = Arc::new(readable(first.schema()));
    let next = uncast(Arc::unwrap_or_clone(recursive_term), &taken_for)?;
    let next = next.transform_up_with_subqueries(|node| {
        let node = match node {
            LogicalPlan::TableScan(scan) if reads(&scan, &name) => {
                let table = CteWorkTable::new(&name, Arc::clone(&read));
                let source = provider_as_source(Arc::new(table));
                let scan = TableScanBuilder::new(scan.table_name, source)
                    .with_projection(scan.projection)
                    .with_filters(scan.filters)
                    .with_fetch(scan.fetch);
                LogicalPlan::TableScan(scan.build()?)
            }
            other => other.recompute_schema()?,
        };
        Ok(Transformed::yes(node))
    })?;
    let next = pass.node(next.data)?;
    check(&name, first.schema(), next.schema())?;
    let next = coerce_plan_expr_for_schema(next, first.schema())?;
    RecursiveQuery::try_new(name, Arc::new(first), Arc::new(next), is_distinct)
        .map(LogicalPlan::RecursiveQuery)
}

/// The second term without the planner's casts to what it took the first term for; what was written
/// as a cast is no cast to it, see `bind::spelling`.
fn uncast(plan: LogicalPlan, taken_for: &DFSchema) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(Projection { expr, input, .. }) = plan else { return Ok(plan) };
    let bare = |expr: Expr, of: &DataType| match expr {
        Expr::Cast(cast) if cast.field.data_type() == of && of.is_numeric() => *cast.expr,
        other => other,
    };
    let exprs = expr.into_iter().zip(taken_for.fields()).map(|(expr, field)| match expr {
        Expr::Alias(mut alias) => {
            let of = std::mem::take(alias.expr.as_mut());
            *alias.expr = bare(of, field.data_type());
            Expr::Alias(alias)
        }
        other => bare(other, field.data_type()),
    });
    Projection::try_new(exprs.collect(), input).map(LogicalPlan::Projection)
}

fn reads(scan: &TableScan, name: &str) -> bool {
    source_as_provider(&scan.source).is_ok_and(|provider| {
        provider.downcast_ref::<CteWorkTable>().is_some_and(|it| it.name() == name)
    })
}

/// The columns as the second term reads them: what it gave itself may be NULL.
fn readable(schema: &DFSchema) -> Schema {
    let fields = schema.fields().iter().map(|it| it.as_ref().clone().with_nullable(true));
    Schema::new_with_metadata(fields.collect::<Vec<Field>>(), schema.metadata().clone())
}

fn check(name: &str, first: &DFSchema, next: &DFSchema) -> Result<()> {
    for (index, (has, gives)) in first.fields().iter().zip(next.fields()).enumerate() {
        let (has, gives) = (has.data_type(), gives.data_type());
        if has == gives || !has.is_numeric() || !gives.is_numeric() {
            continue;
        }
        let wanted = chosen(&[has.clone(), gives.clone()]).unwrap_or_else(|| has.clone());
        let column = format!("recursive query \"{name}\" column {}", index + 1);
        match (has, &wanted) {
            // Whole numbers that do not fit fail when they are computed.
            _ if has.is_integer() && wanted.is_integer() || *has == wanted => {}
            (DataType::Decimal128(_, scale), DataType::Decimal128(_, finer)) if finer <= scale => {}
            (DataType::Decimal128(..), DataType::Decimal128(..)) => {
                let message = format!("{column} has more digits in each round");
                return Err(to_engine(Error::unsupported(message).with_hint(
                    "Cast the column to one numeric(precision, scale) in both terms.",
                )));
            }
            _ => {
                let message = format!(
                    "{column} has type {} in non-recursive term but type {} overall",
                    spelled(has),
                    spelled(&wanted)
                );
                return Err(to_engine(
                    Error::new(Kind::DatatypeMismatch, message).with_hint(
                        "Cast the output of the non-recursive term to the correct type.",
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn spelled(of: &DataType) -> String {
    match of {
        DataType::Decimal128(..) => "numeric".to_owned(),
        _ => Type::from_arrow(of).map_or_else(|| of.to_string(), |it| it.to_string()),
    }
}
