//! Which columns joins have in common.

use kho_catalog::error::{Error, Kind as Code, Result};
use sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, Query, SelectItem, SetExpr,
    Statement, TableAlias, TableFactor, TableWithJoins, Value,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::super::names::{find, folded, object_name};
use super::{Kind, constraint};
use crate::scope::Scope;

/// What is known of relations before they are planned.
pub(super) struct Known<'a> {
    scope: &'a Scope,
    /// The names that `WITH` gave, by the query they hold in.
    ctes: Vec<Vec<String>>,
}

impl<'a> Known<'a> {
    pub(super) fn new(scope: &'a Scope) -> Known<'a> {
        Known { scope, ctes: Vec::new() }
    }

    pub(super) fn enter(&mut self, query: &Query) {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.ctes.push(ctes.map(|cte| folded(&cte.alias.name)).collect());
    }

    pub(super) fn leave(&mut self) {
        self.ctes.pop();
    }

    /// The columns of `factor`, where they are known and somebody `asks`.
    pub(super) fn columns(&self, factor: &TableFactor, asks: bool) -> Option<Vec<String>> {
        match factor {
            _ if !asks => None,
            // An earlier version may have other columns than the table has now.
            TableFactor::Table { name, alias, args: None, version: None, .. }
                if !renames(alias.as_ref()) =>
            {
                self.of_relation(name)
            }
            TableFactor::Derived { subquery, alias, .. } if !renames(alias.as_ref()) => {
                given(&subquery.body)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.of_joins(table_with_joins)
            }
            _ => None,
        }
    }

    fn of_relation(&self, name: &ObjectName) -> Option<Vec<String>> {
        let name = object_name(name).ok()?;
        if name.schema.is_none() && self.ctes.iter().flatten().any(|cte| *cte == name.name) {
            return None;
        }
        let relation = find(self.scope, &name).ok()?;
        Some(relation.columns.iter().map(|it| it.name.clone()).collect())
    }

    fn of_joins(&self, from: &TableWithJoins) -> Option<Vec<String>> {
        let mut all = self.columns(&from.relation, true);
        for join in &from.joins {
            let mut join = join.clone();
            let right = self.columns(&join.relation, true);
            name_common(&mut join, all.as_deref(), right.as_deref(), true).ok()?;
            all = joined(all, right, &join);
        }
        all
    }
}

fn renames(alias: Option<&TableAlias>) -> bool {
    alias.is_some_and(|it| !it.columns.is_empty())
}

/// What a query of named columns gives.
fn given(body: &SetExpr) -> Option<Vec<String>> {
    let SetExpr::Select(select) = body else { return None };
    let name = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(folded(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(folded),
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        _ => None,
    };
    select.projection.iter().map(name).collect()
}

/// Says which columns `NATURAL` means, where those of both sides are known; they must be where it may
/// mean one that `is_merged` of others already.
pub(super) fn name_common(
    join: &mut Join,
    left: Option<&[String]>,
    right: Option<&[String]>,
    is_merged: bool,
) -> Result<()> {
    let Some((kind, constraint)) = constraint(&mut join.join_operator) else { return Ok(()) };
    if !matches!(constraint, JoinConstraint::Natural) {
        return Ok(());
    }
    let (Some(left), Some(right)) = (left, right) else {
        return match kind {
            Kind::Inner | Kind::Left if !is_merged => Ok(()),
            _ => Err(Error::unsupported(
                "the common columns of this NATURAL JOIN are not known when it is bound",
            )
            .with_hint("Name them: JOIN … USING (…), or JOIN … ON.")),
        };
    };
    let common = left.iter().filter(|name| right.contains(name));
    let common: Vec<ObjectName> =
        common.map(|name| ObjectName::from(vec![Ident::with_quote('"', name)])).collect();
    if !common.is_empty() {
        *constraint = JoinConstraint::Using(common);
    } else if kind == Kind::Inner {
        join.join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
    } else {
        let always = Value::Boolean(true).with_empty_span();
        *constraint = JoinConstraint::On(Expr::Value(always));
    }
    Ok(())
}

/// The columns of both sides of `join`, those that it merges once.
pub(super) fn joined(
    left: Option<Vec<String>>,
    right: Option<Vec<String>>,
    join: &Join,
) -> Option<Vec<String>> {
    let merged = match constraint(&mut join.join_operator.clone()) {
        Some((_, JoinConstraint::Natural)) => return None,
        Some((_, constraint)) => using(constraint).ok()?.unwrap_or_default(),
        None => Vec::new(),
    };
    let (left, right) = (left?, right?);
    let rest = left.into_iter().chain(right).filter(|name| !merged.contains(name));
    let rest: Vec<String> = rest.collect();
    Some(merged.into_iter().chain(rest).collect())
}

/// The columns that `constraint` merges; none of them are known of a `NATURAL` one.
pub(super) fn using(constraint: &JoinConstraint) -> Result<Option<Vec<String>>> {
    match constraint {
        JoinConstraint::Using(names) => {
            let name = |it: &ObjectName| match object_name(it)? {
                it if it.schema.is_none() => Ok(it.name),
                _ => {
                    let message = "a column in USING is named without its table";
                    Err(Error::new(Code::Syntax, message))
                }
            };
            names.iter().map(name).collect::<Result<_>>().map(Some)
        }
        JoinConstraint::Natural => Ok(Some(Vec::new())),
        _ => Ok(None),
    }
}

pub(super) fn is_natural(join: &Join) -> bool {
    let mut operator = join.join_operator.clone();
    matches!(constraint(&mut operator), Some((_, JoinConstraint::Natural)))
}

pub(super) fn merges(join: &Join) -> bool {
    match constraint(&mut join.join_operator.clone()) {
        Some((_, it)) => matches!(it, JoinConstraint::Using(_) | JoinConstraint::Natural),
        None => false,
    }
}

/// What is planned with what stands to its left, which a relation of its own does not see.
pub(super) fn is_lateral(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Derived { lateral, .. } | TableFactor::Function { lateral, .. } => *lateral,
        TableFactor::UNNEST { .. } => true,
        _ => false,
    }
}

/// What the columns of `factor` are qualified by, if by one name.
pub(super) fn called(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. } => Some(folded(&alias.name)),
        TableFactor::Table { name, alias: None, .. } => name.0.last()?.as_ident().map(folded),
        _ => None,
    }
}

/// `(SELECT * FROM from) AS alias`.
pub(super) fn derived(from: TableWithJoins, alias: TableAlias) -> Result<TableFactor> {
    let mut whole = Parser::parse_sql(&PostgreSqlDialect {}, "SELECT *").unwrap_or_default();
    let Some(Statement::Query(mut subquery)) = whole.pop() else {
        return Err(Error::internal("a query is not a query"));
    };
    if let SetExpr::Select(select) = subquery.body.as_mut() {
        select.from = vec![from];
    }
    Ok(TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None })
}
