//! `EXPLAIN` and `EXPLAIN ANALYZE` of queries.
//!
//! What it guarantees: the plan is bound and authorized like the query itself; nobody sees the
//! plan of a query they may not run. Files are named by their place in the warehouse.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use futures::StreamExt;
use kho_catalog::error::{Error, Result};
use sqlparser::ast;

use crate::authorize::standing::{Standing, while_it_holds};
use crate::errors::{from_arrow, from_engine};
use crate::execute::{self, Limits};
use crate::outcome::Rows;
use crate::scope::Scope;
use crate::secure;
use crate::session::query;
use crate::write::modify::Parameters;

/// One column of text, as PostgreSQL gives it.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8, false)]))
}

pub(crate) async fn explain(
    scope: &Scope,
    statement: &ast::Statement,
    parameters: Parameters<'_>,
    limits: &Limits,
) -> Result<Rows> {
    let ast::Statement::Explain { analyze, statement: inner, format, options, .. } = statement
    else {
        return Err(Error::internal("not an EXPLAIN"));
    };
    if format.is_some() || options.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err(Error::unsupported("options of EXPLAIN are not supported")
            .with_hint("EXPLAIN and EXPLAIN ANALYZE give text."));
    }
    if !matches!(**inner, ast::Statement::Query(_)) {
        return Err(Error::unsupported("only queries can be explained"));
    }
    let (text, standing) = limits.run(plan_text(scope, inner, parameters, *analyze)).await?;
    let lines = StringArray::from_iter(text.lines().map(Some));
    let batch =
        RecordBatch::try_new(schema(), vec![Arc::new(lines)]).map_err(|it| from_arrow(&it))?;
    let rows = Rows::new(schema(), "EXPLAIN", futures::stream::iter([Ok(batch)]));
    Ok(rows.standing_on(standing))
}

/// The text, and what it stands on where it tells of rows that were read.
async fn plan_text(
    scope: &Scope,
    query_statement: &ast::Statement,
    parameters: Parameters<'_>,
    analyze: bool,
) -> Result<(String, Option<Standing>)> {
    let scope = &Scope { explains: true, ..scope.clone() };
    let (plan, _) = query(scope, query_statement, parameters).await?;
    let physical = execute::physical(&plan).await?;
    if !analyze {
        let text = DisplayableExecutionPlan::new(physical.plan.as_ref()).indent(false).to_string();
        return Ok((text, None));
    }
    plan.standing().refuse_used_up()?;
    let rows = physical.run().map_err(from_engine)?;
    let mut rows = while_it_holds(rows, plan.standing().clone());
    let guarded = secure::is_guarded(physical.plan.as_ref());
    while let Some(batch) = rows.next().await {
        let failed = |error| match guarded {
            true => secure::without_values(from_engine(error)),
            false => from_engine(error),
        };
        batch.map_err(failed)?;
    }
    let text =
        DisplayableExecutionPlan::with_metrics(physical.plan.as_ref()).indent(false).to_string();
    let text = match guarded {
        true => text.lines().map(of_rows).collect::<Vec<_>>().join("\n"),
        false => text,
    };
    Ok((text, Some(plan.standing().clone())))
}

/// A line of the plan without the metrics that may tell how many hidden rows were passed over: how
/// the visible ones came in batches, how long it took and what it needed.
fn of_rows(line: &str) -> String {
    let Some((node, metrics)) = line.split_once("metrics=[") else { return line.to_owned() };
    let metrics = metrics.trim_end_matches(']').split(", ");
    let kept: Vec<&str> = metrics.filter(|metric| metric.starts_with("output_rows=")).collect();
    format!("{node}metrics=[{}]", kept.join(", "))
}
