//! Plain Flight, for loaders and readers that know no SQL: a table by its path.
//!
//! What it guarantees: a path is a table's name and nothing else, `[schema, table]`, or
//! `["schema.table"]`, or `[table]` by the search path; reading it is a query of it, loading into it
//! adds rows; listed are the tables and views that the caller may read something of.
//! What it does not: whoever may read some columns only is refused the whole of them, as in SQL.
//! On failure: `42602` for a path that names no table; else what the statement says.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::{FlightDescriptor, FlightInfo};
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::session::Session;
use tokio_util::sync::CancellationToken;

use super::metadata;
use super::name::RelationName;
use super::options::Form;
use super::run;
use super::run::values::numbers;
use super::stream::{relaxed, shown};

const READABLE: &str = "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'v') \
     AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT')";

/// The table that a descriptor names by its path; `None` of one that is a command.
///
/// # Errors
/// `42602` for a path that is no name.
pub fn named(descriptor: &FlightDescriptor) -> Result<Option<RelationName>> {
    if descriptor.r#type() != DescriptorType::Path {
        return Ok(None);
    }
    let name = match descriptor.path.as_slice() {
        [one] => match one.split_once('.') {
            Some((_, rest)) if rest.contains('.') => None,
            Some((schema, name)) => Some((Some(schema.to_owned()), name.to_owned())),
            None => Some((None, one.clone())),
        },
        [schema, name] => Some((Some(schema.clone()), name.clone())),
        _ => None,
    };
    let (schema, name) = name.ok_or_else(|| {
        Error::new(Kind::InvalidName, "the path of a Flight names no table")
            .with_hint("A path is [schema, table], or [\"schema.table\"].")
    })?;
    RelationName::new(schema, name).map(Some)
}

/// The query that reading a table is.
pub fn query(table: &RelationName) -> String {
    format!("SELECT * FROM {}", table.quoted())
}

/// What the caller may read, each with its path and schema.
///
/// The schema is the one that its rows come with, in this form.
pub async fn list(
    session: &mut Session,
    form: Form,
    stop: &CancellationToken,
) -> Result<Vec<FlightInfo>> {
    let mut readable = BTreeSet::new();
    for batch in run::rows(session, READABLE, &[], stop).await? {
        readable.extend(numbers(&batch, 0).flatten());
    }
    let mut listed = Vec::new();
    for (relation, schema) in metadata::tables_with_schemas(session, stop).await? {
        if !readable.contains(&relation.oid) {
            continue;
        }
        let path = vec![relation.schema, relation.name];
        let info = FlightInfo::new().with_descriptor(FlightDescriptor::new_path(path));
        let info = info.try_with_schema(&shown(&relaxed(&undescribed(&schema)), form)).map_err(
            |error| Error::internal("a table's schema cannot be told").with_source(error),
        )?;
        listed.push(info.with_total_records(-1).with_total_bytes(-1));
    }
    Ok(listed)
}

/// The schema without what is told of its columns beside their names and types.
fn undescribed(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| Field::clone(field).with_metadata(Default::default());
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}
