//! Names of their own for what a correlated subquery compares with the rows around it.
//!
//! # Why
//! The engine makes a join of a correlated subquery: its result becomes one side, under one name, and the
//! columns that it compares with the rows around it are looked up there by their names alone. Where another
//! column of the subquery has the same name, that one is found: other rows, and through a policy hidden ones.
//! What it guarantees: no such column has a name that any other column of its subquery has.
//! What it does not: where no two have one name, nothing is changed.
//! On failure: `0A000` for such a column of a subquery in `FROM` within the subquery.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, TableReference};
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder, Subquery};
use datafusion::optimizer::AnalyzerRule;
use kho_catalog::error::Error;

use crate::errors::to_engine;

/// Puts the rule into a session's analyzer.
pub(crate) fn install(state: &mut SessionState) {
    let mut rules = state.analyzer().rules.clone();
    rules.push(Arc::new(OwnNames));
    *state =
        SessionStateBuilder::new_from_existing(state.clone()).with_analyzer_rules(rules).build();
}

#[derive(Debug)]
struct OwnNames;

impl AnalyzerRule for OwnNames {
    fn name(&self) -> &str {
        "kho_correlated_names"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        // No two have one name, in subqueries within others neither.
        let mut given = 0;
        let plan = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Subquery(it) if !it.outer_ref_columns.is_empty() => {
                Ok(with_own_names(it, &mut given)?.update_data(LogicalPlan::Subquery))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(plan.data)
    }
}

/// The relations that have a column of a name.
type Relations = HashMap<String, HashSet<Option<TableReference>>>;

fn with_own_names(mut subquery: Subquery, given: &mut usize) -> Result<Transformed<Subquery>> {
    let mut relations = Relations::new();
    subquery.subquery.apply(|node| {
        for (relation, field) in node.schema().iter() {
            relations.entry(field.name().clone()).or_default().insert(relation.cloned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    subquery.subquery.apply(|node| {
        if let LogicalPlan::SubqueryAlias(it) = node {
            refuse_shared(&it.input, &relations)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let plan = subquery.subquery.as_ref().clone().transform_up(|node| match node {
        LogicalPlan::Filter(filter) if filter.predicate.contains_outer() => {
            renamed(filter, &relations, given)
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.update_data(|plan| {
        subquery.subquery = Arc::new(plan);
        subquery
    }))
}

/// Under the name of a subquery in FROM the engine finds no column that the subquery does not show.
fn refuse_shared(plan: &LogicalPlan, relations: &Relations) -> Result<()> {
    let refused = |filter: &Filter| {
        shared(&filter.predicate, relations).into_iter().next().map(|column| {
            let message = format!(
                "a subquery in FROM that compares \"{}\" with a row around it is not supported where \
                 another column has the name",
                column.name
            );
            to_engine(Error::unsupported(message).with_hint("Compare it outside of that subquery."))
        })
    };
    plan.apply(|node| match node {
        LogicalPlan::Filter(filter) => match refused(filter) {
            Some(error) => Err(error),
            None => Ok(TreeNodeRecursion::Continue),
        },
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(())
}

/// The columns that a condition compares with rows around and that share their names.
fn shared(condition: &Expr, relations: &Relations) -> HashSet<Column> {
    let is_shared = |column: &&Column| relations.get(&column.name).is_some_and(|it| it.len() > 1);
    let parts = split_conjunction(condition).into_iter().filter(|part| part.contains_outer());
    parts.flat_map(Expr::column_refs).filter(is_shared).cloned().collect()
}

/// `filter` with another name for each column that it compares with rows around and that shares its name.
fn renamed(
    filter: Filter,
    relations: &Relations,
    given: &mut usize,
) -> Result<Transformed<LogicalPlan>> {
    let shared = shared(&filter.predicate, relations);
    if shared.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let mut names: HashMap<Column, String> = HashMap::new();
    let mut columns = all(filter.input.schema());
    for column in shared {
        let name = format!("\u{1}{given} {}", column.name);
        *given += 1;
        columns.push(Expr::Column(column.clone()).alias(&name));
        names.insert(column, name);
    }
    let own = |expr: Expr| match &expr {
        Expr::Column(column) => Ok(match names.get(column) {
            Some(name) => Transformed::yes(Expr::Column(Column::new_unqualified(name))),
            None => Transformed::no(expr),
        }),
        _ => Ok(Transformed::no(expr)),
    };
    let parts =
        split_conjunction_owned(filter.predicate.clone()).into_iter().map(|part| {
            match part.contains_outer() {
                true => Ok(part.transform(own)?.data),
                false => Ok(part),
            }
        });
    let Some(predicate) = conjunction(parts.collect::<Result<Vec<_>>>()?) else {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    };
    let shown = all(filter.input.schema());
    let plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(filter.input)).project(columns)?;
    plan.filter(predicate)?.project(shown)?.build().map(Transformed::yes)
}

fn all(schema: &DFSchema) -> Vec<Expr> {
    let columns = schema.iter();
    columns
        .map(|(relation, field)| Expr::Column(Column::new(relation.cloned(), field.name())))
        .collect()
}
