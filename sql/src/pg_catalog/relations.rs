//! Schemas, relations, and what hangs on them: checks, rules, comments.

use kho_catalog::error::Result;
use kho_catalog::state::{Relation, RelationKind, Table};

use super::acl;
use super::definition::{self, Definition, SYSTEM_SCHEMAS};
use super::object::{self, Part, SYSTEM_OWNER, part_oid};
use super::rows::Rows;
use super::scope;
use super::value::Value;
use super::{CatalogView, cluster};

/// The oids of the catalogs that hold schemas, relations, constraints and roles.
pub const PG_NAMESPACE: i64 = 2615;
pub const PG_CLASS: i64 = 1259;
pub const PG_AUTHID: i64 = 1260;

pub fn fill(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    match table {
        "pg_namespace" => namespaces(view, rows),
        "pg_class" => classes(view, rows),
        "pg_constraint" => constraints(view, rows),
        "pg_rewrite" | "pg_rules" => rules(view, table, rows),
        "pg_description" => descriptions(view, rows),
        "pg_tables" => tables(view, rows),
        "pg_views" => views(view, rows),
        "pg_stat_user_tables" => statistics(view, rows),
        _ => Ok(()),
    }
}

fn namespaces(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for (oid, name) in SYSTEM_SCHEMAS {
        let item = format!("=U/{}", object::role_name(view, SYSTEM_OWNER));
        rows.push([
            ("oid", oid.into()),
            ("nspname", name.into()),
            ("nspowner", SYSTEM_OWNER.into()),
            ("nspacl", vec![item].into()),
        ])?;
    }
    for schema in object::schemas(view) {
        let acl = acl::items(view, schema.owner, &schema.grants, acl::SCHEMA);
        rows.push([
            ("oid", schema.oid.into()),
            ("nspname", schema.name.as_str().into()),
            ("nspowner", schema.owner.into()),
            ("nspacl", acl.into()),
        ])?;
    }
    Ok(())
}

fn classes(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for relation in object::relations(view) {
        class(view, relation, rows)?;
    }
    for it in definition::all() {
        let item = format!("=r/{}", object::role_name(view, SYSTEM_OWNER));
        rows.push([
            ("oid", it.oid.into()),
            ("relname", it.name.into()),
            ("relnamespace", it.schema_oid().into()),
            ("relowner", SYSTEM_OWNER.into()),
            ("reltuples", Value::Int(-1)),
            ("relpersistence", "p".into()),
            ("relkind", it.kind.into()),
            ("relnatts", it.columns.len().into()),
            ("relispopulated", true.into()),
            ("relreplident", "n".into()),
            ("relacl", vec![item].into()),
        ])?;
    }
    Ok(())
}

fn class(view: &CatalogView, relation: &Relation, rows: &mut Rows) -> Result<()> {
    let table = relation.table();
    rows.push([
        ("oid", relation.oid.into()),
        ("relname", relation.name.as_str().into()),
        ("relnamespace", relation.schema.into()),
        ("reltype", part_oid(relation.oid, Part::RowType).into()),
        ("relowner", relation.owner.into()),
        ("relam", table.map(|_| cluster::ACCESS_METHOD).into()),
        ("reltuples", Value::Int(-1)),
        ("relhasindex", (!relation.searched().is_empty()).into()),
        ("relpersistence", "p".into()),
        ("relkind", kind(relation).into()),
        ("relnatts", relation.columns.len().into()),
        ("relchecks", table.map(|it| it.checks.len()).into()),
        ("relhasrules", table.is_none().into()),
        ("relrowsecurity", table.map(|it| it.row_security.enabled).unwrap_or_default().into()),
        ("relforcerowsecurity", table.map(|it| it.row_security.forced).unwrap_or_default().into()),
        ("relispopulated", true.into()),
        ("relreplident", if table.is_some() { "d" } else { "n" }.into()),
        ("relacl", acl::items(view, relation.owner, &relation.grants, acl::RELATION).into()),
        ("reloptions", table.map(|it| options(relation, it)).into()),
    ])
}

/// `relkind`.
pub fn kind(relation: &Relation) -> &'static str {
    match relation.kind {
        RelationKind::Table(_) => "r",
        RelationKind::View(_) => "v",
    }
}

/// What `CREATE TABLE … WITH (…)` said, as `name=value`.
fn options(relation: &Relation, table: &Table) -> Vec<String> {
    let governance = &table.governance;
    let column = |id: u32| relation.columns.iter().find(|it| it.id == id).map(|it| it.name.clone());
    let purposes: Vec<&str> = governance.allowed_purposes.iter().map(String::as_str).collect();
    let given = [
        ("classification", Some(governance.classification.name().to_owned())),
        ("update_frequency", governance.update_frequency.clone()),
        ("retention", governance.retention.clone()),
        ("retention_column", governance.retention_column.and_then(column)),
        ("allowed_purposes", (!purposes.is_empty()).then(|| purposes.join(","))),
        ("requires_agreement", governance.requires_agreement.then(|| "true".to_owned())),
    ];
    given
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name}={value}")))
        .collect()
}

fn constraints(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for relation in object::relations(view) {
        let checks = relation.table().into_iter().flat_map(|table| &table.checks);
        for (at, check) in checks.enumerate() {
            let columns = check.expression.value().map(|text| scope::columns_of(text, relation));
            rows.push([
                ("oid", part_oid(relation.oid, Part::Check(at)).into()),
                ("conname", check.name.as_str().into()),
                ("connamespace", relation.schema.into()),
                ("contype", "c".into()),
                ("convalidated", true.into()),
                ("conrelid", relation.oid.into()),
                ("confupdtype", " ".into()),
                ("confdeltype", " ".into()),
                ("confmatchtype", " ".into()),
                ("conislocal", true.into()),
                ("conkey", columns.into()),
                ("conbin", check.expression.value().into()),
            ])?;
        }
    }
    Ok(())
}

fn rules(view: &CatalogView, table: &str, rows: &mut Rows) -> Result<()> {
    // pg_rules leaves out the rules that make a view a view.
    if table == "pg_rules" {
        return Ok(());
    }
    for relation in object::relations(view).filter(|it| it.view().is_some()) {
        rows.push([
            ("oid", part_oid(relation.oid, Part::Rule).into()),
            ("rulename", "_RETURN".into()),
            ("ev_class", relation.oid.into()),
            ("ev_type", "1".into()),
            ("ev_enabled", "O".into()),
            ("is_instead", true.into()),
        ])?;
    }
    Ok(())
}

fn descriptions(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    let mut push = |oid: u32, class: i64, sub: usize, text: Option<&str>| match text {
        Some(text) => rows.push([
            ("objoid", oid.into()),
            ("classoid", class.into()),
            ("objsubid", sub.into()),
            ("description", text.into()),
        ]),
        None => Ok(()),
    };
    for schema in object::schemas(view) {
        push(schema.oid, PG_NAMESPACE, 0, schema.comment.as_ref().and_then(|it| it.value()))?;
    }
    for relation in object::relations(view) {
        push(relation.oid, PG_CLASS, 0, relation.comment.as_ref().and_then(|it| it.value()))?;
        for (at, column) in relation.columns.iter().enumerate() {
            let text = column.comment.as_ref().and_then(|it| it.value());
            push(relation.oid, PG_CLASS, at.saturating_add(1), text)?;
        }
    }
    Ok(())
}

fn tables(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for relation in object::relations(view).filter(|it| it.table().is_some()) {
        rows.push([
            ("schemaname", object::schema_name(view, relation.schema).into()),
            ("tablename", relation.name.as_str().into()),
            ("tableowner", object::role_name(view, relation.owner).into()),
            ("hasindexes", (!relation.searched().is_empty()).into()),
            ("hasrules", false.into()),
            ("hastriggers", false.into()),
            ("rowsecurity", false.into()),
        ])?;
    }
    for it in system("r") {
        rows.push([
            ("schemaname", it.schema.into()),
            ("tablename", it.name.into()),
            ("tableowner", object::role_name(view, SYSTEM_OWNER).into()),
            ("hasindexes", false.into()),
            ("hasrules", false.into()),
            ("hastriggers", false.into()),
            ("rowsecurity", false.into()),
        ])?;
    }
    Ok(())
}

/// Nothing is counted by table: a client that looks for an estimate finds none.
fn statistics(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for relation in object::relations(view).filter(|it| it.table().is_some()) {
        rows.push([
            ("relid", relation.oid.into()),
            ("schemaname", object::schema_name(view, relation.schema).into()),
            ("relname", relation.name.as_str().into()),
        ])?;
    }
    Ok(())
}

fn views(view: &CatalogView, rows: &mut Rows) -> Result<()> {
    for relation in object::relations(view) {
        if let Some(of) = relation.view() {
            rows.push([
                ("schemaname", object::schema_name(view, relation.schema).into()),
                ("viewname", relation.name.as_str().into()),
                ("viewowner", object::role_name(view, relation.owner).into()),
                ("definition", of.query.value().map(|text| format!(" {text};")).into()),
            ])?;
        }
    }
    for it in system("v") {
        rows.push([
            ("schemaname", it.schema.into()),
            ("viewname", it.name.into()),
            ("viewowner", object::role_name(view, SYSTEM_OWNER).into()),
        ])?;
    }
    Ok(())
}

fn system(kind: &str) -> impl Iterator<Item = &'static Definition> {
    definition::all().filter(move |it| it.kind == kind)
}
