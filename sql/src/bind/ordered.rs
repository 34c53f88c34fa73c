//! What `ORDER BY` means by the name of a column that nobody gave a name.
//!
//! # Why
//! `SELECT n::text … ORDER BY n` sorts by the text in PostgreSQL, since the column of the result is called
//! `n`; the engine calls it otherwise, and would sort by the column read.
//! What it guarantees: such a name is the place of the column of the result; of `UNION` and its like, that of
//! the first part.
//! What it does not: where a wildcard stands before the column, its place is not known, and it is sorted by
//! what the column is made of.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, OrderByKind, Query, SelectItem, SetExpr, Statement, Value, VisitMut, VisitorMut,
};

use super::folded;
use super::prepare::shown_name;

/// Says which columns each `ORDER BY` of `statement` means.
pub(super) fn by_columns_given(statement: &mut Statement) {
    let _whole = statement.visit(&mut EachQuery);
}

struct EachQuery;

impl VisitorMut for EachQuery {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let by = query.order_by.as_mut().map(|it| &mut it.kind);
        let (Some(OrderByKind::Expressions(by)), Some(given)) = (by, first(&query.body)) else {
            return ControlFlow::Continue(());
        };
        let is_union = matches!(*query.body, SetExpr::SetOperation { .. });
        for by in by {
            if let Expr::Identifier(name) = &by.expr
                && let Some(meant) = meant(&folded(name), given, is_union)
            {
                by.expr = meant;
            }
        }
        ControlFlow::Continue(())
    }
}

/// The columns of a query's result.
fn first(body: &SetExpr) -> Option<&[SelectItem]> {
    match body {
        SetExpr::Select(select) => Some(&select.projection),
        SetExpr::Query(query) => first(&query.body),
        SetExpr::SetOperation { left, .. } => first(left),
        _ => None,
    }
}

/// What stands for the one column that is called `name` without being one, or having been given that name.
fn meant(name: &str, given: &[SelectItem], is_union: bool) -> Option<Expr> {
    let is_called = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) => shown_name(expr).is_some_and(|it| it == name),
        SelectItem::ExprWithAlias { alias, .. } => folded(alias) == name,
        _ => false,
    };
    let mut called = given.iter().enumerate().filter(|(_, item)| is_called(item));
    let (at, SelectItem::UnnamedExpr(expr)) = called.next()? else { return None };
    let is_column = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    if called.next().is_some() || is_column {
        return None;
    }
    let before = given.get(..at).unwrap_or_default();
    let is_known = before
        .iter()
        .all(|item| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }));
    match (is_known, is_union) {
        (true, _) => Some(Expr::Value(Value::Number((at + 1).to_string(), false).into())),
        (false, false) => Some(expr.clone()),
        (false, true) => None,
    }
}
