//! The names of columns of queries within others, where these give none: PostgreSQL's.
//!
//! # Why
//! `count(*)` in FROM is `count` to whoever is around it, and `at::date` is `at`; the engine has names of
//! its own, which nobody would write, and takes no two of one name.
//! What it guarantees: a subquery in FROM and a query of WITH have the names that PostgreSQL gives. None
//! of two of one name can be asked for by it, but a client is shown it ([`super::prepare::marked_names`]).
//! What it does not: where a wildcard stands among the columns, their number is not known yet, and what has
//! no name keeps the engine's.

use std::collections::HashMap;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, Query, SelectItem, SetExpr, Statement, TableAlias, TableAliasColumnDef,
    TableFactor, VisitMut, VisitorMut,
};

use super::folded;
use super::prepare::{beside, names_of_parts, shown, shown_name};

/// Gives what is computed in a subquery, and in a query of WITH, names that no other has.
pub(super) fn apart(statement: &mut Statement) {
    let _whole = statement.visit(&mut Apart);
}

/// Names the columns of each subquery in FROM and of each query of WITH.
pub(super) fn name(statement: &mut Statement) {
    let _whole = statement.visit(&mut Nested);
}

struct Apart;

impl VisitorMut for Apart {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Subquery(subquery) | Expr::InSubquery { subquery, .. } = expr {
            let _shown = names_of_parts(&mut subquery.body);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { subquery, .. } = factor {
            let _shown = names_of_parts(&mut subquery.body);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            let _shown = names_of_parts(&mut cte.query.body);
        }
        ControlFlow::Continue(())
    }
}

struct Nested;

impl VisitorMut for Nested {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { subquery, alias: Some(alias), .. } = factor {
            name_columns(alias, subquery);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            name_columns(&mut cte.alias, &cte.query);
        }
        ControlFlow::Continue(())
    }
}

fn name_columns(alias: &mut TableAlias, query: &Query) {
    if alias.columns.is_empty()
        && let Some(names) = names(&query.body)
    {
        let column =
            |name| TableAliasColumnDef { name: Ident::with_quote('"', name), data_type: None };
        alias.columns = names.into_iter().map(column).collect();
    }
}

/// `None` where the engine's are right, or how many there are is not known.
fn names(body: &SetExpr) -> Option<Vec<String>> {
    let select = match body {
        SetExpr::Select(select) => select,
        SetExpr::Query(query) => return names(&query.body),
        SetExpr::SetOperation { left, .. } => return names(left),
        _ => return None,
    };
    let mut names = Vec::new();
    let mut differ = false;
    for item in &select.projection {
        let name = match item {
            SelectItem::UnnamedExpr(expr) => {
                differ |= !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                shown_name(expr)?
            }
            SelectItem::ExprWithAlias { alias, .. } => match shown(&alias.value) {
                Some(name) => {
                    differ = true;
                    name.to_owned()
                }
                None => folded(alias),
            },
            _ => return None,
        };
        names.push(name);
    }
    let mut times = HashMap::new();
    for name in &names {
        *times.entry(name.clone()).or_insert(0) += 1;
    }
    differ |= times.len() < names.len();
    let numbered = names.into_iter().enumerate();
    let apart = numbered.map(|(at, name)| match times.get(&name) {
        Some(2..) => beside(at, &name),
        _ => name,
    });
    differ.then(|| apart.collect())
}
