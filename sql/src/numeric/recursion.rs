//! Recursive queries: both terms have the types of the first, and so has what the second reads.
//!
//! On failure: `42804` where the second term would give numbers that the first has no room for, as
//! PostgreSQL refuses them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::expr_rewriter::coerce_plan_expr_for_schema;
use datafusion::logical_expr::logical_plan::{RecursiveQuery, TableScanBuilder};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, TableScan};
use kho_catalog::error::{Error, Kind};
use kho_catalog::types::Type;

use super::common::chosen;
use super::typed::Pass;
use crate::errors::to_engine;

pub(super) fn typed(pass: &mut Pass, query: RecursiveQuery) -> Result<LogicalPlan> {
    let RecursiveQuery { name, static_term, recursive_term, is_distinct, .. } = query;
    let first = pass.node(Arc::unwrap_or_clone(static_term))?;
    let read = Arc::new(readable(first.schema()));
    let next = Arc::unwrap_or_clone(recursive_term).transform_up_with_subqueries(|node| {
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
    check(&name, first.schema(), &next)?;
    let next = coerce_plan_expr_for_schema(next, first.schema())?;
    RecursiveQuery::try_new(name, Arc::new(first), Arc::new(next), is_distinct)
        .map(LogicalPlan::RecursiveQuery)
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

fn check(name: &str, first: &DFSchema, next: &LogicalPlan) -> Result<()> {
    let columns = first.fields().iter().zip(next.schema().fields()).enumerate();
    for (index, (has, gives)) in columns {
        let (has, gives) = (has.data_type(), gives.data_type());
        if has == gives || !has.is_numeric() || !gives.is_numeric() {
            continue;
        }
        let given = uncast(next, index).unwrap_or_else(|| gives.clone());
        let wanted = chosen(&[has.clone(), given]).unwrap_or_else(|| has.clone());
        let fits = has.is_integer() && wanted.is_integer()
            || has.is_decimal() && wanted.is_decimal()
            || wanted == *has;
        if !fits {
            let message = format!(
                "recursive query \"{name}\" column {} has type {} in non-recursive term but type \
                 {} overall",
                index + 1,
                spelled(has),
                spelled(&wanted)
            );
            return Err(to_engine(
                Error::new(Kind::DatatypeMismatch, message)
                    .with_hint("Cast the output of the non-recursive term to the correct type."),
            ));
        }
    }
    Ok(())
}

/// The type of a column before the planner cast it to what it took the first term for.
fn uncast(plan: &LogicalPlan, index: usize) -> Option<DataType> {
    let LogicalPlan::Projection(projection) = plan else { return None };
    let Expr::Cast(cast) = projection.expr.get(index)?.clone().unalias() else { return None };
    cast.expr.get_type(projection.input.schema()).ok()
}

fn spelled(of: &DataType) -> String {
    match of {
        DataType::Decimal128(..) => "numeric".to_owned(),
        _ => Type::from_arrow(of).map_or_else(|| of.to_string(), |it| it.to_string()),
    }
}
