//! `USING` and `NATURAL`: one column of two.
//!
//! # Why
//! To the engine `g` of `a RIGHT JOIN b USING (g)` is `a.g`, which is NULL where a row of `b` has no
//! partner, and of three joined relations it is none. The column that PostgreSQL makes is the left
//! one, the right one of a `RIGHT JOIN`, and of a `FULL JOIN` whichever is not NULL.
//! What it is: a pass over the syntax tree. Each such join becomes a relation of its own ([`merge`])
//! with the merged columns under a qualifier that nobody can write; a bare `g` gets it.
//! What it guarantees: a bare name in the query of such a `FROM` is the merged column, of no outer query.
//! Both sides are there under their own names.
//! What it does not: in a subquery of that query a bare name that no relation there has is ambiguous.
//! On failure: `0A000` for a `NATURAL` join that is a `RIGHT` or `FULL JOIN`, or of columns that were merged,
//! where the columns of a side are known only when it is planned.

mod columns;
mod merge;

use std::ops::ControlFlow;

use datafusion::common::DFSchema;
use kho_catalog::error::{Error, Result};
use sqlparser::ast::{
    Expr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, OrderByKind, Query, Select,
    SelectItem, SetExpr, Statement, TableAlias, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

pub(super) use merge::{Merging, settled};

use super::names::folded;
use crate::scope::Scope;
use columns::Known;

/// How the qualifier of merged columns begins.
const MARK: &str = "\u{1}using ";

/// Whether these are the columns of a relation that [`merged`] made: they are those of both sides.
pub(crate) fn merges_columns(schema: &DFSchema) -> bool {
    schema.iter().any(|(relation, _)| relation.is_some_and(|it| it.table().starts_with(MARK)))
}

/// Makes relations of the joins that merge columns.
pub(super) fn merged(scope: &Scope, statement: &mut Statement) -> Result<()> {
    let mut pass = Pass { known: Known::new(scope), made: 0 };
    match statement.visit(&mut pass) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Pass<'a> {
    known: Known<'a>,
    /// How many qualifiers there are.
    made: usize,
}

/// A merged column that can be named.
struct Merged {
    name: String,
    qualifier: String,
    /// The relation whose column of that name is the same.
    same: Option<String>,
}

impl VisitorMut for Pass<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        self.known.enter(query);
        match self.query(query) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
        self.known.leave();
        ControlFlow::Continue(())
    }
}

impl Pass<'_> {
    fn query(&mut self, query: &mut Query) -> Result<()> {
        let SetExpr::Select(select) = query.body.as_mut() else {
            return self.body(&mut query.body);
        };
        let merged = self.select(select)?;
        if merged.is_empty() {
            return Ok(());
        }
        let Some(by) = query.order_by.as_mut() else { return Ok(()) };
        let OrderByKind::Expressions(by) = &mut by.kind else { return Ok(()) };
        for by in by {
            // What the query gives goes before what it reads.
            if !matches!(&by.expr, Expr::Identifier(name) if gives(select, &folded(name))) {
                rename(&mut by.expr, &merged, is_grouped(select));
            }
        }
        Ok(())
    }

    fn body(&mut self, body: &mut SetExpr) -> Result<()> {
        match body {
            SetExpr::Select(select) => self.select(select).map(|_| ()),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left)?;
                self.body(right)
            }
            _ => Ok(()),
        }
    }

    /// Gives the merged columns of `select` their qualifiers, and says which they are.
    fn select(&mut self, select: &mut Select) -> Result<Vec<Merged>> {
        let mut from = std::mem::take(&mut select.from);
        let mut merged = Vec::new();
        for item in &mut from {
            merged.extend(self.chain(item)?);
        }
        if !merged.is_empty() {
            let grouped = is_grouped(select);
            rename(select, &merged, grouped);
        }
        select.from = from;
        Ok(merged)
    }

    /// Makes relations of what merges in `from`, and says which columns can be named.
    fn chain(&mut self, from: &mut TableWithJoins) -> Result<Vec<Merged>> {
        let natural = from.joins.iter().any(columns::is_natural);
        let mut columns = self.known.columns(&from.relation, natural);
        let mut seen = self.factor(&mut from.relation)?;
        let mut done: Vec<Join> = Vec::new();
        for mut join in std::mem::take(&mut from.joins) {
            let right_columns = self.known.columns(&join.relation, natural);
            let right = self.factor(&mut join.relation)?;
            let any = !seen.is_empty() || !right.is_empty();
            columns::name_common(&mut join, columns.as_deref(), right_columns.as_deref(), any)?;
            columns = columns::joined(columns, right_columns, &join);
            let names = match constraint(&mut join.join_operator) {
                Some((_, constraint)) => columns::using(constraint)?,
                None => None,
            };
            let Some(names) = names.filter(|_| !columns::is_lateral(&join.relation)) else {
                seen.extend(right);
                if let Some((_, JoinConstraint::On(on))) = constraint(&mut join.join_operator) {
                    rename(on, &seen, false);
                }
                done.push(join);
                continue;
            };
            let side = match constraint(&mut join.join_operator).map(|it| it.0) {
                Some(Kind::Right) => Some((&right, &join.relation)),
                Some(Kind::Inner | Kind::Left) => Some((&seen, &from.relation)),
                Some(Kind::Full) | None => None,
            };
            let alone =
                done.is_empty() || matches!(side, Some((of, _)) if std::ptr::eq(of, &right));
            let same = |name: &String| {
                let (seen, factor) = side?;
                match seen.iter().find(|it| it.name == *name) {
                    Some(merged) => merged.same.clone(),
                    None if alone => columns::called(factor),
                    None => None,
                }
            };
            let qualifier = format!("{MARK}{}", self.made);
            self.made += 1;
            let now = names.iter().map(|name| Merged {
                name: name.clone(),
                qualifier: qualifier.clone(),
                same: same(name),
            });
            let now: Vec<Merged> = now.collect();
            seen.extend(right);
            seen.retain(|it| !names.contains(&it.name));
            seen.extend(now);
            wrap(from, std::mem::take(&mut done), join, &qualifier);
        }
        from.joins = done;
        Ok(seen)
    }

    fn factor(&mut self, factor: &mut TableFactor) -> Result<Vec<Merged>> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.chain(table_with_joins)
            }
            // The alias is of what a query of all its columns gives.
            TableFactor::NestedJoin { table_with_joins, alias: Some(alias) }
                if table_with_joins.joins.iter().any(columns::merges) =>
            {
                *factor = columns::derived((**table_with_joins).clone(), alias.clone())?;
                Ok(Vec::new())
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// Puts `join`, whose left side is `from` with the joins in `done`, into a relation of its own.
fn wrap(from: &mut TableWithJoins, done: Vec<Join>, join: Join, qualifier: &str) {
    let nested = |relation, joins, alias| TableFactor::NestedJoin {
        table_with_joins: Box::new(TableWithJoins { relation, joins }),
        alias,
    };
    let left = match done.is_empty() {
        true => from.relation.clone(),
        false => nested(from.relation.clone(), done, None),
    };
    let name = Ident::with_quote('"', qualifier);
    let alias = TableAlias { explicit: true, name, columns: Vec::new(), at: None };
    from.relation = nested(left, vec![join], Some(alias));
}

/// Which rows a join keeps that have no partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Inner,
    Left,
    Right,
    Full,
}

fn constraint(operator: &mut JoinOperator) -> Option<(Kind, &mut JoinConstraint)> {
    Some(match operator {
        JoinOperator::Join(it) | JoinOperator::Inner(it) => (Kind::Inner, it),
        JoinOperator::Left(it) | JoinOperator::LeftOuter(it) => (Kind::Left, it),
        JoinOperator::Right(it) | JoinOperator::RightOuter(it) => (Kind::Right, it),
        JoinOperator::FullOuter(it) => (Kind::Full, it),
        _ => return None,
    })
}

fn is_grouped(select: &Select) -> bool {
    !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty())
}

/// Whether a column of what `select` gives is called `name`, or may be.
fn gives(select: &Select, name: &str) -> bool {
    select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(Expr::Identifier(it)) => folded(it) == name,
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
            parts.last().is_some_and(|it| folded(it) == name)
        }
        SelectItem::UnnamedExpr(_) => false,
        SelectItem::ExprWithAlias { alias, .. } => folded(alias) == name,
        _ => true,
    })
}

/// Gives `merged` columns that `of` names, outside of its subqueries, their qualifiers. Where rows are
/// `grouped` a column of a side that is the same counts as the merged one.
fn rename(of: &mut impl VisitMut, merged: &[Merged], grouped: bool) {
    // Nothing stops it.
    let _: ControlFlow<()> = of.visit(&mut Rename { merged, grouped, depth: 0 });
}

struct Rename<'a> {
    merged: &'a [Merged],
    grouped: bool,
    depth: usize,
}

impl Rename<'_> {
    fn found(&self, expr: &Expr) -> Option<Expr> {
        let (table, name) = match expr {
            Expr::Identifier(name) => (None, folded(name)),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, name] if self.grouped => (Some(folded(table)), folded(name)),
                _ => return None,
            },
            _ => return None,
        };
        let mut named = self.merged.iter().filter(|it| it.name == name);
        let (merged, other) = (named.next()?, named.next());
        // Two of one name are ambiguous, which the planner says.
        if other.is_some() || table.is_some() && merged.same != table {
            return None;
        }
        let parts = [merged.qualifier.as_str(), name.as_str()];
        Some(Expr::CompoundIdentifier(parts.map(|it| Ident::with_quote('"', it)).to_vec()))
    }
}

impl VisitorMut for Rename<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Some(named) = self.found(expr)
        {
            *expr = named;
        }
        ControlFlow::Continue(())
    }
}
