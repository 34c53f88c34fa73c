//! Catalogs, schemas and tables.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::sql::metadata::{GetDbSchemasBuilder, GetTablesBuilder};
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTables};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::Result;
use kho_sql::session::{DATABASE, Session};
use tokio_util::sync::CancellationToken;

use super::columns::{Shapes, shapes};
use super::not_built;
use crate::flight::options::Form;
use crate::flight::run;
use crate::flight::run::values::{numbers, texts};
use crate::flight::stream::shown;

/// What a relation is, in the words of JDBC; those of the system are told apart, so that a tool can
/// leave them out.
pub(super) const TABLE_TYPES: [&str; 4] = ["SYSTEM TABLE", "SYSTEM VIEW", "TABLE", "VIEW"];

const SCHEMAS: &str = "SELECT nspname FROM pg_catalog.pg_namespace \
     WHERE $1::text IS NULL OR nspname LIKE $1 ORDER BY 1";

const TABLES: &str = "SELECT c.oid, n.nspname, c.relname, \
     CASE WHEN n.nspname IN ('pg_catalog', 'information_schema', 'kho') THEN 'SYSTEM ' ELSE '' END \
     || CASE WHEN c.relkind = 'v' THEN 'VIEW' ELSE 'TABLE' END \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'v') AND ($1::text IS NULL OR n.nspname LIKE $1) \
     AND ($2::text IS NULL OR c.relname LIKE $2)";

/// A relation that the caller may see.
pub struct Seen {
    pub oid: i64,
    pub schema: String,
    pub name: String,
    /// One of [`TABLE_TYPES`].
    pub table_type: String,
}

pub(super) async fn catalogs(
    session: &mut Session,
    command: CommandGetCatalogs,
    stop: &CancellationToken,
) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    let text = "SELECT datname FROM pg_catalog.pg_database WHERE datname = current_database()";
    for batch in run::rows(session, text, &[], stop).await? {
        texts(&batch, 0).flatten().for_each(|name| builder.append(name));
    }
    builder.build().map_err(not_built)
}

pub(super) async fn schemas(
    session: &mut Session,
    command: CommandGetDbSchemas,
    stop: &CancellationToken,
) -> Result<RecordBatch> {
    let pattern = ScalarValue::Utf8(command.db_schema_filter_pattern);
    // The pattern is the statement's, which reads it as SQL does.
    let mut builder = GetDbSchemasBuilder::new(command.catalog, None::<String>);
    for batch in run::rows(session, SCHEMAS, &[pattern], stop).await? {
        texts(&batch, 0).flatten().for_each(|name| builder.append(DATABASE, name));
    }
    builder.build().map_err(not_built)
}

pub(super) async fn tables(
    session: &mut Session,
    command: CommandGetTables,
    form: Form,
    stop: &CancellationToken,
) -> Result<RecordBatch> {
    let CommandGetTables { catalog, table_types, include_schema, .. } = command;
    let (schemas, names) = (command.db_schema_filter_pattern, command.table_name_filter_pattern);
    let mut found = seen(session, schemas.as_deref(), names.as_deref(), stop).await?;
    found.retain(|it| table_types.is_empty() || table_types.contains(&it.table_type));
    if catalog.as_deref().is_some_and(|catalog| catalog != DATABASE) {
        found.clear();
    }
    let shapes = match include_schema && !found.is_empty() {
        true => shapes(session, (schemas.as_deref(), names.as_deref()), &found, stop).await?,
        false => Shapes::default(),
    };
    let none = None::<String>;
    let mut builder = GetTablesBuilder::new(
        none.clone(),
        none.clone(),
        none,
        Vec::<String>::new(),
        include_schema,
    );
    let empty = Arc::new(Schema::empty());
    for it in &found {
        // What is told of a table is what comes of a query for it.
        let shape = shown(shapes.get(&it.oid).unwrap_or(&empty), form);
        builder
            .append(DATABASE, &it.schema, &it.name, &it.table_type, &shape)
            .map_err(not_built)?;
    }
    builder.build().map_err(not_built)
}

/// The relations whose schemas and names are like these patterns.
pub async fn seen(
    session: &mut Session,
    schemas: Option<&str>,
    names: Option<&str>,
    stop: &CancellationToken,
) -> Result<Vec<Seen>> {
    let patterns = patterns(schemas, names);
    let mut found = Vec::new();
    for batch in run::rows(session, TABLES, &patterns, stop).await? {
        let names = texts(&batch, 1).zip(texts(&batch, 2)).zip(texts(&batch, 3));
        let rows = numbers(&batch, 0).zip(names).filter_map(|(oid, ((schema, name), of))| {
            Some(Seen { oid: oid?, schema: schema?, name: name?, table_type: of? })
        });
        found.extend(rows);
    }
    Ok(found)
}

pub(super) fn patterns(schemas: Option<&str>, names: Option<&str>) -> [ScalarValue; 2] {
    [schemas, names].map(|pattern| ScalarValue::Utf8(pattern.map(str::to_owned)))
}
