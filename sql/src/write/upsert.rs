//! `INSERT … ON CONFLICT`: the proposed rows, joined to the table by a key.
//!
//! # Why a rank
//! Two proposed rows may have one key. Of them the first is inserted; the others are nothing to
//! `DO NOTHING`, and an error to `DO UPDATE`, as in PostgreSQL. NULLs conflict with nothing.

mod proposed;

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::datasource::ViewTable;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Key, Relation};
use sqlparser::ast;

use super::change::{Act, Clause, From, Modification, Outer, When, assignments, column_of};
use super::insert::{shown, wanted};
use super::merge::first_table;
use super::modify::{Given, Parameters};
use super::target::{bind_insert, target_name};
use crate::bind::{self, Needs};
use crate::scope::Scope;
use crate::session::with_parameters;

pub(super) use self::proposed::Proposed;

const PROPOSED: &str = "\u{1}proposed";
const EXCLUDED: &str = "excluded";
const ORDER: &str = "\u{1}order";
const RANK: &str = "\u{1}rank";

/// What an `INSERT` with `ON CONFLICT` does, and the rows it proposes; `None` for one that nothing
/// can conflict with.
pub(super) async fn of_insert(
    scope: &Scope,
    insert: &ast::Insert,
    relation: &Arc<Relation>,
    parameters: Parameters<'_>,
) -> Result<Option<(Modification, Given)>> {
    let conflict = match &insert.on {
        None => return Ok(None),
        Some(ast::OnInsert::OnConflict(conflict)) => conflict,
        Some(_) => return Err(Error::unsupported("ON DUPLICATE KEY UPDATE is not supported")),
    };
    let Some(key) = arbiter(relation, conflict)? else { return Ok(None) };
    let mut bound = bind_insert(scope, insert, relation, parameters.fields).await?;
    bound.plan = with_parameters(bound.plan, parameters.values)?;
    let rows = Arc::new(ViewTable::new(bound.plan.clone(), None));
    let (extra, reads) = (vec![(PROPOSED.to_owned(), rows as _)], bound.reads.clone());
    let needs = Some(needs(relation, &key, conflict)?);
    let given = Given { extra, reads, needs, proposed: Some(Proposed { bound, key: key.clone() }) };
    let table = shown(insert)?;
    let change = Modification {
        target: target_name(insert)?.clone(),
        alias: insert.table_alias.as_ref().map(|alias| alias.alias.clone()),
        from: joined(&key, &table)?,
        selection: None,
        clauses: clauses(relation, &key, conflict)?,
        command: "INSERT",
        returning: wanted(insert)?.map(|wanted| wanted.items),
    };
    Ok(Some((change, given)))
}

/// Which columns must be readable besides those of the table that the statement names: those of
/// the key it names, and those that it takes from the proposed row, as in PostgreSQL.
fn needs(relation: &Relation, key: &[String], conflict: &ast::OnConflict) -> Result<Needs> {
    if conflict.conflict_target.is_none() {
        return Ok(Needs::Nothing);
    }
    let mut named = key.to_vec();
    if let ast::OnConflictAction::DoUpdate(update) = &conflict.action {
        let assigned = assignments(&update.assignments)?;
        let values = assigned.iter().map(|(_, value)| value);
        for value in values.chain(&update.selection) {
            let _ = ast::visit_expressions(value, |expr| {
                if let ast::Expr::CompoundIdentifier(parts) = expr
                    && let [table, column] = parts.as_slice()
                    && bind::folded(table) == EXCLUDED
                {
                    named.push(bind::folded(column));
                }
                ControlFlow::<()>::Continue(())
            });
        }
    }
    let ids = named.iter().filter_map(|name| relation.column(name)).map(|column| column.id);
    Ok(Needs::Rows(ids.collect()))
}

/// The columns of the key that conflicts are looked for by.
fn arbiter(relation: &Relation, conflict: &ast::OnConflict) -> Result<Option<Vec<String>>> {
    let keys: &[Key] = relation.table().map(|table| table.keys.as_slice()).unwrap_or_default();
    let names = |key: &Key| -> Vec<String> {
        let name = |id: &u32| {
            let column = relation.columns.iter().find(|column| column.id == *id);
            column.map(|column| column.name.clone())
        };
        key.columns.iter().filter_map(name).collect()
    };
    let none = || {
        let message = "there is no unique or exclusion constraint matching the ON CONFLICT \
                       specification";
        Error::new(Kind::InvalidColumnReference, message)
    };
    match &conflict.conflict_target {
        None if matches!(conflict.action, ast::OnConflictAction::DoUpdate(_)) => {
            let message =
                "ON CONFLICT DO UPDATE requires inference specification or constraint name";
            Err(Error::new(Kind::Syntax, message)
                .with_hint("For example, ON CONFLICT (column_name)."))
        }
        None => match keys {
            [] => Ok(None),
            [key] => Ok(Some(names(key))),
            _ => Err(Error::unsupported("ON CONFLICT without columns on a table of several keys")
                .with_hint("Name the columns of one key.")),
        },
        Some(ast::ConflictTarget::Columns(columns)) => {
            let mut wanted: Vec<String> = columns.iter().map(bind::folded).collect();
            wanted.sort_unstable();
            wanted.dedup();
            let unknown = wanted.iter().find(|name| relation.column(name).is_none());
            if let Some(name) = unknown {
                let message = format!("column \"{name}\" does not exist");
                return Err(Error::new(Kind::UndefinedColumn, message));
            }
            let same = |key: &&Key| {
                let mut columns = names(key);
                columns.sort_unstable();
                columns == wanted
            };
            keys.iter().find(same).map(|key| Some(names(key))).ok_or_else(none)
        }
        Some(ast::ConflictTarget::OnConstraint(name)) => {
            let name = bind::object_name(name)?.name;
            let key = keys.iter().find(|key| key.name == name);
            key.map(|key| Some(names(key))).ok_or_else(|| {
                let table = &relation.name;
                let message = format!("constraint \"{name}\" for table \"{table}\" does not exist");
                Error::new(Kind::UndefinedObject, message)
            })
        }
    }
}

/// The proposed rows, numbered within their key, joined to the table.
fn joined(key: &[String], table: &ast::Ident) -> Result<From> {
    let columns = key.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let text = format!(
        "SELECT 1 FROM (SELECT *, row_number() OVER (PARTITION BY {columns} ORDER BY \"{ORDER}\") \
         AS \"{RANK}\" FROM (SELECT *, row_number() OVER () AS \"{ORDER}\" FROM \"{PROPOSED}\") \
         AS ordered) AS {EXCLUDED}"
    );
    let mut query = crate::parse::query(&text)?;
    let source = first_table(&mut query)?.clone();
    let equal = key.iter().map(|name| ast::Expr::BinaryOp {
        left: Box::new(excluded(name)),
        op: ast::BinaryOperator::Eq,
        right: Box::new(column_of(table, name)),
    });
    let on = equal.reduce(and).ok_or_else(|| Error::internal("a key without columns"))?;
    Ok(From::Joined { source, on, outer: Outer::Source })
}

fn clauses(relation: &Relation, key: &[String], conflict: &ast::OnConflict) -> Result<Vec<Clause>> {
    let is_null = key.iter().map(|name| ast::Expr::IsNull(Box::new(excluded(name))));
    let first = ast::Expr::BinaryOp {
        left: Box::new(excluded(RANK)),
        op: ast::BinaryOperator::Eq,
        right: Box::new(ast::Expr::Value(ast::Value::Number("1".to_owned(), false).into())),
    };
    let first = is_null.fold(first, |either, other| ast::Expr::BinaryOp {
        left: Box::new(either),
        op: ast::BinaryOperator::Or,
        right: Box::new(other),
    });
    let values = relation.columns.iter().map(|it| (it.name.clone(), excluded(&it.name)));
    let values: Vec<_> = values.collect();
    let insert =
        Clause { when: When::NotMatched, condition: Some(first), act: Act::Insert(values.clone()) };
    let propose = |when| Clause { when, condition: None, act: Act::Propose(values.clone()) };
    let update = match &conflict.action {
        ast::OnConflictAction::DoNothing => {
            return Ok(vec![insert, propose(When::NotMatched), propose(When::Matched)]);
        }
        ast::OnConflictAction::DoUpdate(update) => update,
    };
    let again = Clause { when: When::NotMatched, condition: None, act: Act::Fail };
    let update = Clause {
        when: When::Matched,
        condition: update.selection.clone(),
        act: Act::Update(assignments(&update.assignments)?),
    };
    Ok(vec![insert, again, update])
}

fn excluded(column: &str) -> ast::Expr {
    column_of(&ast::Ident::new(EXCLUDED), column)
}

fn and(left: ast::Expr, right: ast::Expr) -> ast::Expr {
    ast::Expr::BinaryOp {
        left: Box::new(left),
        op: ast::BinaryOperator::And,
        right: Box::new(right),
    }
}
