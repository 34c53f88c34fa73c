//! `CREATE TABLE`, with its columns given or taken from a query.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Check, Column, DefaultOn, Relation, RelationKind, Table};
use kho_catalog::types::Type;
use sqlparser::ast::{CreateTable, CreateTableOptions, HiveDistributionStyle, Ident, SqlOption};

use super::super::name::{self, taken};
use super::super::{Context, grant, notice_of, options};
use super::constraint::{self, Declared, DeclaredColumn};
use super::key;
use crate::outcome::Notice;

/// What a `CREATE TABLE` makes.
pub(crate) struct Definition {
    /// The relation to be made; the one that is there if `if_not_exists_hit`.
    pub relation: Relation,
    /// `IF NOT EXISTS` found it: there is nothing to do.
    pub if_not_exists_hit: bool,
    pub notices: Vec<Notice>,
}

/// `CREATE TABLE` with columns.
pub(crate) fn define(ctx: &mut Context<'_>, statement: &CreateTable) -> Result<Definition> {
    if statement.query.is_some() {
        return Err(Error::internal("CREATE TABLE AS needs the columns of its query"));
    }
    make(ctx, statement, None)
}

/// `CREATE TABLE … AS`, with the columns that its query gives.
pub(crate) fn define_as(
    ctx: &mut Context<'_>,
    statement: &CreateTable,
    columns: Vec<(String, Type)>,
) -> Result<Definition> {
    if !statement.columns.is_empty() || !statement.constraints.is_empty() {
        return Err(Error::unsupported("CREATE TABLE AS takes its columns from the query")
            .with_hint("Name them with AS and give their types with CAST in the query."));
    }
    make(ctx, statement, Some(columns))
}

fn make(
    ctx: &mut Context<'_>,
    statement: &CreateTable,
    query: Option<Vec<(String, Type)>>,
) -> Result<Definition> {
    refuse(statement)?;
    let mut notices = Vec::new();
    let mut qualified = name::qualified(&statement.name)?;
    qualified.name = name::created(name::last(&statement.name)?, &mut notices)?;
    let schema = name::target(ctx, &qualified)?;
    if let Some(existing) = ctx.state.relation(schema.oid, &qualified.name) {
        let error = taken(&qualified.name);
        if !statement.if_not_exists {
            return Err(error);
        }
        notices.push(notice_of("42P07", format!("{error}, skipping")));
        let relation = Relation::clone(existing);
        return Ok(Definition { relation, if_not_exists_hit: true, notices });
    }
    name::require_free(ctx, schema.oid, &qualified.name)?;
    let Declarations { mut columns, checks, keys, next_column } =
        declarations(ctx, statement, query, &mut notices)?;
    let checks = named(ctx, &qualified.name, &columns, &checks, &mut notices)?;
    let target = key::Target {
        schema: schema.oid,
        name: &qualified.name,
        columns: &columns,
        checks: &checks,
        keys: &[],
        indexes: &[],
    };
    let keys = key::of_new_table(ctx, &target, keys, &mut notices)?;
    for key in &keys {
        key::require_values(&mut columns, key);
    }
    let (base, known) = (options::default_governance(), &ctx.state.access.purposes);
    let governance = options::with_options(&base, with(statement)?, &columns, known)?;
    let table = Table {
        dataset: ctx.dataset.to_owned(),
        generation: 0,
        next_column,
        checks,
        keys,
        indexes: vec![],
        dropped: vec![],
        row_security: Default::default(),
        policies: vec![],
        governance,
        created_ms: ctx.now_ms,
    };
    let relation = Relation {
        oid: ctx.state.new_oid(0),
        schema: schema.oid,
        name: qualified.name,
        owner: ctx.who.role(),
        columns,
        grants: grant::of_new(ctx.state, ctx.who.role(), DefaultOn::Tables, Some(schema.oid)),
        comment: None,
        kind: RelationKind::Table(table),
    };
    Ok(Definition { relation, if_not_exists_hit: false, notices })
}

/// What a table is declared to have.
struct Declarations<'a> {
    columns: Vec<Column>,
    checks: Vec<Declared<'a>>,
    keys: Vec<key::Declared<'a>>,
    next_column: u32,
}

fn declarations<'a>(
    ctx: &mut Context<'_>,
    statement: &'a CreateTable,
    query: Option<Vec<(String, Type)>>,
    notices: &mut Vec<Notice>,
) -> Result<Declarations<'a>> {
    let (columns, checks, keys) = (Vec::new(), Vec::new(), Vec::new());
    let mut all = Declarations { columns, checks, keys, next_column: 1 };
    for definition in &statement.columns {
        let DeclaredColumn { column, checks, keys } =
            constraint::column(ctx, definition, all.next_column, notices)?;
        require_once(&all.columns, &column.name)?;
        all.columns.push(column);
        all.checks.extend(checks);
        all.keys.extend(keys);
        all.next_column += 1;
    }
    for (name, data_type) in query.into_iter().flatten() {
        let name = constraint::column_name(&Ident::with_quote('"', name), notices)?;
        require_once(&all.columns, &name)?;
        let (id, not_null) = (all.next_column, false);
        all.columns.push(Column { not_null, ..Column::new(id, &name, data_type) });
        all.next_column += 1;
    }
    if all.columns.is_empty() {
        return Err(Error::unsupported("tables without columns are not supported"));
    }
    for table_constraint in &statement.constraints {
        match key::of_table(table_constraint)? {
            Some(key) => all.keys.push(key),
            None => all.checks.push(constraint::table_check(table_constraint)?),
        }
    }
    Ok(all)
}

fn named(
    ctx: &mut Context<'_>,
    table: &str,
    columns: &[Column],
    declared: &[Declared<'_>],
    notices: &mut Vec<Notice>,
) -> Result<Vec<Check>> {
    let mut checks: Vec<Check> = Vec::with_capacity(declared.len());
    let mut names = Vec::with_capacity(declared.len());
    for declared in declared {
        let check = constraint::check(ctx, table, columns, &names, declared, notices)?;
        names.push(check.name.clone());
        checks.push(check);
    }
    Ok(checks)
}

fn require_once(columns: &[Column], name: &str) -> Result<()> {
    if columns.iter().any(|column| column.name == name) {
        let message = format!("column \"{name}\" specified more than once");
        return Err(Error::new(Kind::DuplicateColumn, message));
    }
    constraint::require_free(columns, name, "")
}

fn with(statement: &CreateTable) -> Result<&[SqlOption]> {
    match &statement.table_options {
        CreateTableOptions::None => Ok(&[]),
        CreateTableOptions::With(options) => Ok(options),
        CreateTableOptions::Options(_)
        | CreateTableOptions::Plain(_)
        | CreateTableOptions::TableProperties(_) => {
            Err(Error::unsupported("options of a table are written WITH (…)"))
        }
    }
}

/// Refuses every clause that is parsed and not obeyed.
fn refuse(it: &CreateTable) -> Result<()> {
    let distributed = !matches!(it.hive_distribution, HiveDistributionStyle::NONE);
    let clauses = [
        (it.or_replace, "OR REPLACE"),
        (it.temporary || it.global.is_some() || it.transient || it.volatile, "TEMPORARY"),
        (it.on_commit.is_some(), "ON COMMIT"),
        (it.partition_by.is_some() || it.partition_of.is_some(), "PARTITION"),
        (it.for_values.is_some(), "PARTITION"),
        (it.inherits.is_some(), "INHERITS"),
        (it.like.is_some() || it.clone.is_some(), "LIKE"),
        (it.external || it.location.is_some() || it.file_format.is_some(), "EXTERNAL"),
        (it.dynamic || it.iceberg || it.snapshot, "this kind of table"),
        (it.primary_key.is_some(), "PRIMARY KEY"),
        (it.order_by.is_some() || it.sortkey.is_some(), "ORDER BY"),
        (it.cluster_by.is_some() || it.clustered_by.is_some() || distributed, "CLUSTER BY"),
        (it.distkey.is_some() || it.diststyle.is_some() || it.on_cluster.is_some(), "DISTRIBUTE"),
        (it.hive_formats.as_ref().is_some_and(hive), "ROW FORMAT"),
        (it.without_rowid || it.strict, "this table option"),
        (it.version.is_some(), "a table version"),
        (it.comment.is_some(), "COMMENT"),
        (it.copy_grants, "COPY GRANTS"),
        (it.with_tags.is_some(), "TAG"),
        (it.with_row_access_policy.is_some(), "ROW ACCESS POLICY"),
        (it.with_aggregation_policy.is_some(), "AGGREGATION POLICY"),
        (it.with_storage_lifecycle_policy.is_some(), "STORAGE LIFECYCLE POLICY"),
        (it.default_ddl_collation.is_some(), "COLLATE"),
        (other_vendors(it), "this table option"),
    ];
    match clauses.iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, clause)) => Err(Error::unsupported(format!(
            "{clause} in CREATE TABLE is not supported"
        ))
        .with_hint("A table has columns, keys, NOT NULL, CHECK, DEFAULT, and options WITH (…).")),
    }
}

fn hive(format: &sqlparser::ast::HiveFormat) -> bool {
    format.row_format.is_some()
        || format.serde_properties.is_some()
        || format.storage.is_some()
        || format.location.is_some()
}

/// Options of other systems, which PostgreSQL's grammar never gives.
fn other_vendors(it: &CreateTable) -> bool {
    it.enable_schema_evolution.is_some()
        || it.change_tracking.is_some()
        || it.data_retention_time_in_days.is_some()
        || it.max_data_extension_time_in_days.is_some()
        || it.external_volume.is_some()
        || it.base_location.is_some()
        || it.catalog.is_some()
        || it.catalog_sync.is_some()
        || it.storage_serialization_policy.is_some()
        || it.target_lag.is_some()
        || it.warehouse.is_some()
        || it.refresh_mode.is_some()
        || it.initialize.is_some()
        || it.require_user
        || it.backup.is_some()
}
