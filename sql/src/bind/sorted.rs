//! What `ORDER BY` and `GROUP BY` mean by a name that a column read and a column given both have.
//!
//! # Why
//! To the engine it is the column given, wherever it stands; to PostgreSQL only where it is all that is
//! sorted by, and never in an expression: `SELECT status, sum(total) AS total … ORDER BY sum(total)`.
//! What it guarantees: an alias is called otherwise while the query is planned, if the query sorts by an
//! expression with that name in it, or by the alias where that reads a column of its name; what is sorted
//! by the alias alone still is. A client is shown the alias ([`super::prepare::marked_names`]).
//! What it does not: an alias that `GROUP BY` names, too, and that reads no column of its name, stays.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, GroupByExpr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, Visit,
    VisitMut, Visitor, VisitorMut,
};

use super::folded;
use super::prepare::beside;

/// Renames such aliases in every query of `statement`.
pub(super) fn by_columns_read(statement: &mut Statement) {
    let _whole = statement.visit(&mut EachQuery);
}

struct EachQuery;

impl VisitorMut for EachQuery {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let by = query.order_by.as_mut().map(|it| &mut it.kind);
        if let (SetExpr::Select(select), Some(OrderByKind::Expressions(by))) =
            (query.body.as_mut(), by)
        {
            in_select(select, by.iter_mut().map(|it| &mut it.expr).collect());
        }
        ControlFlow::Continue(())
    }
}

fn in_select(select: &mut Select, mut by: Vec<&mut Expr>) {
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(by, _) => by.as_slice(),
        GroupByExpr::All(_) => &[],
    };
    for (at, item) in select.projection.iter_mut().enumerate() {
        let SelectItem::ExprWithAlias { expr, alias } = item else { continue };
        let name = folded(alias);
        // What is given is sorted by where it is what is sorted by.
        let (given, spelled) = (Expr::Identifier(alias.clone()), expr.to_string());
        // A name alone is of what is given already, and a number is a place.
        let says_more = |by: &Expr| !matches!(by, Expr::Identifier(_) | Expr::Value(_));
        for by in by.iter_mut().filter(|by| says_more(by) && by.to_string() == spelled) {
            **by = given.clone();
        }
        let is_bare = |by: &Expr| matches!(by, Expr::Identifier(it) if folded(it) == name);
        let is_place = |by: &Expr| by.to_string() == (at + 1).to_string();
        let is_read = by.iter().any(|by| !is_bare(by) && mentions(by, &name));
        let is_sorted = by.iter().any(|by| is_bare(by) || is_place(by));
        // A name that the expression reads is a column's; another one may be the only one of its name to
        // GROUP BY.
        let is_known = mentions(expr, &name);
        let may_be_grouped = !is_known && grouped.iter().any(|by| mentions(by, &name));
        // Of what is there once each there is nothing else to sort by.
        if select.distinct.is_some() || is_column(expr, &name) || may_be_grouped {
            continue;
        }
        let is_taken = is_read || (is_sorted && is_known);
        if !is_taken {
            continue;
        }
        let other = Ident::with_quote('"', beside(at, &name));
        for by in by.iter_mut().filter(|by| is_bare(by)) {
            **by = Expr::Identifier(other.clone());
        }
        *alias = other;
    }
}

fn is_column(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Identifier(it) => folded(it) == name,
        Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|it| folded(it) == name),
        _ => false,
    }
}

fn mentions(expr: &Expr, name: &str) -> bool {
    Visit::visit(expr, &mut Mentions { name }).is_break()
}

struct Mentions<'a> {
    name: &'a str,
}

impl Visitor for Mentions<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match is_column(expr, self.name) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
