//! What depends on what: `pg_depend`.
//!
//! What it guarantees: a view is there with each relation that it reads and the columns of it that
//! it names, which is what `DROP` refuses to take away under it; so are the parts of a relation:
//! types, keys, indexes, checks, defaults. Both ends of a dependency are what the principal sees.
//! What it does not: a column is followed into a view by name, so a view of two tables with a
//! column of one name is there with both.

use std::sync::Arc;

use kho_catalog::error::Result;
use kho_catalog::state::{Oid, Relation, State, View};

use super::CatalogView;
use super::object::{self, Part, part_oid};
use super::relations::{PG_CLASS, PG_NAMESPACE};
use super::rows::Rows;
use super::scope;
use super::value::Value;
use crate::command::depend::{named_relations, words};

const PG_TYPE: i64 = 1247;
const PG_ATTRDEF: i64 = 2604;
const PG_CONSTRAINT: i64 = 2606;
const PG_REWRITE: i64 = 2618;

/// Goes only with what it belongs to; goes before it; keeps it from going.
const INTERNAL: &str = "i";
const AUTO: &str = "a";
const NORMAL: &str = "n";

/// An object: its catalog, its number, its column from 1, or 0 for the whole of it.
type Object = (i64, Oid, i64);

pub fn fill(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    if table != "pg_depend" {
        return Ok(());
    }
    for relation in object::relations(view) {
        parts(relation, rows)?;
        if let Some(of) = relation.view() {
            rule(view, relation, of, rows)?;
        }
    }
    Ok(())
}

fn push(of: Object, on: Object, kind: &str, rows: &mut Rows) -> Result<()> {
    rows.push([
        ("classid", of.0.into()),
        ("objid", of.1.into()),
        ("objsubid", of.2.into()),
        ("refclassid", on.0.into()),
        ("refobjid", on.1.into()),
        ("refobjsubid", on.2.into()),
        ("deptype", Value::from(kind)),
    ])
}

fn parts(relation: &Arc<Relation>, rows: &mut Rows) -> Result<()> {
    let whole = (PG_CLASS, relation.oid, 0);
    let part = |part| part_oid(relation.oid, part);
    push(whole, (PG_NAMESPACE, relation.schema, 0), NORMAL, rows)?;
    let row_type = (PG_TYPE, part(Part::RowType), 0);
    push(row_type, whole, INTERNAL, rows)?;
    push((PG_TYPE, part(Part::RowTypeArray), 0), row_type, INTERNAL, rows)?;
    for (at, column) in relation.columns.iter().enumerate() {
        if column.default.is_some() {
            let default = (PG_ATTRDEF, part(Part::Default(at)), 0);
            push(default, (PG_CLASS, relation.oid, place(at)), AUTO, rows)?;
        }
    }
    for (at, key) in relation.keys().iter().enumerate() {
        let constraint = (PG_CONSTRAINT, part(Part::Key(at)), 0);
        for id in &key.columns {
            if let Some(at) = relation.columns.iter().position(|column| column.id == *id) {
                push(constraint, (PG_CLASS, relation.oid, place(at)), AUTO, rows)?;
            }
        }
        push((PG_CLASS, part(Part::Index(at)), 0), constraint, INTERNAL, rows)?;
    }
    for (at, index) in relation.searched().iter().enumerate().skip(relation.keys().len()) {
        for id in &index.columns {
            if let Some(column) = relation.columns.iter().position(|column| column.id == *id) {
                let column = (PG_CLASS, relation.oid, place(column));
                push((PG_CLASS, part(Part::Index(at)), 0), column, AUTO, rows)?;
            }
        }
    }
    let checks = relation.table().into_iter().flat_map(|table| &table.checks);
    for (at, check) in checks.enumerate() {
        let constraint = (PG_CONSTRAINT, part(Part::Check(at)), 0);
        let text = check.expression.value();
        for column in text.map(|text| scope::columns_of(text, relation)).unwrap_or_default() {
            let column = (PG_CLASS, relation.oid, column);
            push(constraint, column, AUTO, rows)?;
            push(constraint, column, NORMAL, rows)?;
        }
    }
    Ok(())
}

/// A view is a rule that reads.
fn rule(view: &CatalogView, relation: &Relation, of: &View, rows: &mut Rows) -> Result<()> {
    let rule = (PG_REWRITE, part_oid(relation.oid, Part::Rule), 0);
    let whole = (PG_CLASS, relation.oid, 0);
    push(rule, whole, INTERNAL, rows)?;
    push(rule, whole, NORMAL, rows)?;
    let words = words(of)?;
    for oid in reads(&view.state, of)? {
        let Some(read) = object::relation(view, oid) else { continue };
        let columns = read.columns.iter().enumerate();
        let named = columns
            .filter(|(_, column)| words.as_ref().is_none_or(|it| it.contains(&column.name)))
            .map(|(at, _)| place(at));
        let mut named: Vec<i64> = named.collect();
        // A view can read a table and no column of it: it counts its rows.
        if named.is_empty() {
            named.push(0);
        }
        for column in named {
            push(rule, (PG_CLASS, read.oid, column), NORMAL, rows)?;
        }
    }
    Ok(())
}

/// What a view reads itself. It depends on what the views that it reads depend on, too.
fn reads(state: &State, of: &View) -> Result<Vec<Oid>> {
    let named = named_relations(of)?;
    let is_named = |oid: Oid| {
        let relation = state.relations.get(&oid)?;
        let schema = state.schemas.get(&relation.schema)?;
        let mut named = named.iter();
        Some(named.any(|(of, name)| *of == schema.name && *name == relation.name))
    };
    let reached = |oid: Oid| {
        let mut others = of.depends_on.iter().filter_map(|it| state.relations.get(it)?.view());
        others.any(|other| other.depends_on.contains(&oid))
    };
    let own = |oid: &Oid| is_named(*oid).unwrap_or_default() || !reached(*oid);
    Ok(of.depends_on.iter().copied().filter(own).collect())
}

/// A column's number.
fn place(at: usize) -> i64 {
    i64::try_from(at).map_or(i64::MAX, |at| at.saturating_add(1))
}
