//! What clients ask about the warehouse: catalogs, schemas, tables, keys, types, and what Kho does.
//!
//! What it guarantees: rows are those of SQL over the catalog, run by the caller's session with what
//! the client gave as values: what the caller may not see is not there, and the ledger has it. The
//! columns are those of the protocol, by name and place, since drivers read them so.
//! What it does not: Kho has no foreign keys; there is none to tell of.
//! On failure: what the statement says.

mod columns;
mod info;
mod keys;
mod relations;
mod types;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::SqlInfoDataBuilder;
use arrow_flight::sql::{Command, CommandGetTableTypes};
use kho_catalog::error::{Error, Result};
use kho_sql::session::Session;
use tokio_util::sync::CancellationToken;

use super::options::Form;

pub use relations::Seen;

/// The columns of the answer to `command`; `None` where it asks for no metadata.
pub fn schema(command: &Command) -> Option<SchemaRef> {
    Some(match command {
        Command::CommandGetCatalogs(it) => (*it).into_builder().schema(),
        Command::CommandGetDbSchemas(it) => it.clone().into_builder().schema(),
        Command::CommandGetTables(it) => it.clone().into_builder().schema(),
        Command::CommandGetTableTypes(it) => (*it).into_builder().schema(),
        Command::CommandGetPrimaryKeys(_) => keys::primary_schema(),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => keys::foreign_schema(),
        Command::CommandGetSqlInfo(_) => std::sync::Arc::new(SqlInfoDataBuilder::schema().clone()),
        Command::CommandGetXdbcTypeInfo(_) => types::schema(),
        _ => return None,
    })
}

/// The answer to `command`, as `session` may have it, whose prepared statements are kept for so long
/// after its last word; rows of tables come in `form`.
///
/// # Errors
/// `XX000` for a command that asks for no metadata; else what the statement says.
pub async fn answer(
    session: &mut Session,
    command: Command,
    (handles_ms, form): (u64, Form),
    stop: &CancellationToken,
) -> Result<RecordBatch> {
    match command {
        Command::CommandGetCatalogs(it) => relations::catalogs(session, it, stop).await,
        Command::CommandGetDbSchemas(it) => relations::schemas(session, it, stop).await,
        Command::CommandGetTables(it) => relations::tables(session, it, form, stop).await,
        Command::CommandGetTableTypes(it) => table_types(it),
        Command::CommandGetPrimaryKeys(it) => keys::primary(session, it, stop).await,
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => {
            Ok(RecordBatch::new_empty(keys::foreign_schema()))
        }
        Command::CommandGetSqlInfo(it) => info::answer(session, handles_ms, &it),
        Command::CommandGetXdbcTypeInfo(it) => types::answer(it),
        _ => Err(Error::internal("a command asks for no metadata")),
    }
}

/// The tables and views that are no part of the system, with the schemas of their rows.
pub async fn tables_with_schemas(
    session: &mut Session,
    stop: &CancellationToken,
) -> Result<Vec<(Seen, SchemaRef)>> {
    let mut found = relations::seen(session, None, None, stop).await?;
    found.retain(|it| matches!(it.table_type.as_str(), "TABLE" | "VIEW"));
    found.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    let mut shapes = columns::shapes(session, (None, None), &found, stop).await?;
    let with = |it: Seen| shapes.remove(&it.oid).map(|schema| (it, schema));
    Ok(found.into_iter().filter_map(with).collect())
}

fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    for of in relations::TABLE_TYPES {
        builder.append(of);
    }
    builder.build().map_err(not_built)
}

/// The builders fail only where what they are given is no answer at all.
fn not_built(error: FlightError) -> Error {
    Error::internal("the answer about the catalog cannot be put together").with_source(error)
}
