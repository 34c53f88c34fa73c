//! `*` as the columns that may be read, where `kho.expand_star` asks for it.
//!
//! What it guarantees: a `*` over a table or view of which the role may read some columns becomes
//! those columns, by name; with the setting at `all`, as PostgreSQL has it, nothing is touched and
//! such a statement is refused when it is decided upon. Either way no other column is read.
//! What it does not: it leaves alone what a role may read nothing of, a version of a table by its
//! number or time, a table whose alias renames its columns, and `RETURNING *`: all of it must be
//! readable there.
//! On failure: `0A000` where the columns of a `*` cannot be named: over `USING` and `NATURAL`,
//! which make one column of two.

use std::ops::ControlFlow;

use kho_catalog::error::{Error, Result};
use kho_catalog::privilege::{self, Action, Decision, RelationAction};
use sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind as Kind, SetExpr, Statement, TableAlias,
    TableFactor, TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use super::names::{find, folded, object_name};
use crate::scope::Scope;

/// The setting, and its value that asks for this.
const SETTING: &str = "kho.expand_star";
const READABLE: &str = "readable";

/// Names the columns that `*` stands for, if the session asks for it.
pub(super) fn expand(scope: &Scope, statement: &mut Statement) -> Result<()> {
    if scope.settings.get(SETTING)? != READABLE {
        return Ok(());
    }
    match statement.visit(&mut Pass { scope, ctes: Vec::new() }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Pass<'a> {
    scope: &'a Scope,
    /// The names that `WITH` gave, by the query they hold in.
    ctes: Vec<Vec<String>>,
}

impl VisitorMut for Pass<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.ctes.push(ctes.map(|cte| folded(&cte.alias.name)).collect());
        match self.body(&mut query.body) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
        self.ctes.pop();
        ControlFlow::Continue(())
    }
}

/// A table in `FROM`.
struct Factor {
    /// How its columns are qualified; `None` where they cannot be.
    name: Option<ObjectName>,
    /// The names of the columns that can be read, where those are some and not all.
    readable: Option<Vec<String>>,
}

impl Pass<'_> {
    fn body(&self, body: &mut SetExpr) -> Result<()> {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left)?;
                self.body(right)
            }
            _ => Ok(()),
        }
    }

    fn select(&self, select: &mut Select) -> Result<()> {
        let is_star = |item: &SelectItem| {
            matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
        };
        if !select.projection.iter().any(is_star) {
            return Ok(());
        }
        let (mut factors, mut merges) = (Vec::new(), false);
        for from in &select.from {
            self.collect(from, &mut factors, &mut merges);
        }
        if factors.iter().all(|factor| factor.readable.is_none()) {
            return Ok(());
        }
        let mut projection = Vec::new();
        for item in std::mem::take(&mut select.projection) {
            match &item {
                SelectItem::Wildcard(_) => {
                    if merges {
                        return Err(unnamed());
                    }
                    for factor in &factors {
                        projection.extend(columns(factor)?);
                    }
                }
                SelectItem::QualifiedWildcard(Kind::ObjectName(written), _) => {
                    match factors.iter().find(|it| is_called(it, written)) {
                        Some(factor) if factor.readable.is_some() => {
                            projection.extend(columns(factor)?);
                        }
                        _ => projection.push(item),
                    }
                }
                _ => projection.push(item),
            }
        }
        select.projection = projection;
        Ok(())
    }

    fn collect(&self, from: &TableWithJoins, factors: &mut Vec<Factor>, merges: &mut bool) {
        self.factor(&from.relation, factors, merges);
        for join in &from.joins {
            if let JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint) = &join.join_operator
            {
                *merges |= matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural);
            }
            self.factor(&join.relation, factors, merges);
        }
    }

    fn factor(&self, factor: &TableFactor, factors: &mut Vec<Factor>, merges: &mut bool) {
        let called = |alias: &Option<TableAlias>| Some(one_part(alias.as_ref()?.name.clone()));
        let found = match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                return self.collect(table_with_joins, factors, merges);
            }
            TableFactor::Table { name, alias, args, version, .. } => {
                let renames = alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
                let plain = args.is_none() && version.is_none() && !renames;
                Factor {
                    name: Some(called(alias).unwrap_or_else(|| name.clone())),
                    readable: plain.then(|| self.readable(name)).flatten(),
                }
            }
            TableFactor::Derived { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. } => Factor { name: called(alias), readable: None },
            _ => Factor { name: None, readable: None },
        };
        factors.push(found);
    }

    fn readable(&self, written: &ObjectName) -> Option<Vec<String>> {
        let name = object_name(written).ok()?;
        if name.schema.is_none() && self.ctes.iter().flatten().any(|cte| *cte == name.name) {
            return None;
        }
        let relation = find(self.scope, &name).ok()?;
        let (state, who) = (&self.scope.state, &self.scope.who);
        let whole = Action::Relation(relation.oid, RelationAction::Select);
        if privilege::decide(state, who, whole) != Decision::Denied {
            return None;
        }
        let readable: Vec<u32> = privilege::readable_columns(state, who, &relation).collect();
        let columns = relation.columns.iter().filter(|it| readable.contains(&it.id));
        let names: Vec<String> = columns.map(|it| it.name.clone()).collect();
        (!names.is_empty()).then_some(names)
    }
}

/// What one table gives to a `*`.
fn columns(factor: &Factor) -> Result<Vec<SelectItem>> {
    let name = factor.name.as_ref().ok_or_else(unnamed)?;
    let Some(readable) = &factor.readable else {
        let options = WildcardAdditionalOptions::default();
        return Ok(vec![SelectItem::QualifiedWildcard(Kind::ObjectName(name.clone()), options)]);
    };
    let qualifier: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
    let item = |column: &String| {
        let mut parts = qualifier.clone();
        parts.push(Ident::with_quote('"', column));
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts))
    };
    Ok(readable.iter().map(item).collect())
}

fn is_called(factor: &Factor, written: &ObjectName) -> bool {
    let last = |name: &ObjectName| name.0.last()?.as_ident().map(folded);
    factor.name.as_ref().is_some_and(|name| last(name) == last(written))
}

fn one_part(ident: Ident) -> ObjectName {
    ObjectName(vec![ObjectNamePart::Identifier(ident)])
}

fn unnamed() -> Error {
    Error::unsupported(format!(
        "\"*\" cannot stand for the readable columns of this FROM ({SETTING} is {READABLE})"
    ))
    .with_hint("Name the columns, or give each item of FROM an alias and join with ON.")
}
