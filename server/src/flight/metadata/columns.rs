//! The columns of tables, as the Arrow schemas that their rows have.
//!
//! What it guarantees: a column of a type that can be declared is of the Arrow type that rows of it
//! come in, with what drivers read beside it in the field's metadata.
//! What it does not: of a column of another type (a struct, or the system's own), the type is that
//! of a query of it; where the caller may not read it, it is told as text.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use kho_catalog::error::Result;
use kho_catalog::types::Type;
use kho_sql::session::{DATABASE, Session};
use kho_sql::types;
use tokio_util::sync::CancellationToken;

use super::relations::{Seen, patterns};
use crate::flight::name::{RelationName, quoted};
use crate::flight::run;
use crate::flight::run::values::{booleans, numbers, texts};

/// By the number of the relation.
pub type Shapes = BTreeMap<i64, SchemaRef>;

const COLUMNS: &str = "SELECT a.attrelid, a.attname, \
     pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
     pg_catalog.col_description(a.attrelid, a.attnum) \
     FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v') \
     AND ($1::text IS NULL OR n.nspname LIKE $1) AND ($2::text IS NULL OR c.relname LIKE $2) \
     ORDER BY a.attrelid, a.attnum";

/// The key of each of a column's facts, as Flight SQL names it.
fn key(fact: &str) -> String {
    format!("ARROW:FLIGHT:SQL:{fact}")
}

struct Column {
    name: String,
    type_name: String,
    is_nullable: bool,
    remarks: Option<String>,
}

/// The schemas of the relations in `found`, which are among those like the patterns.
pub async fn shapes(
    session: &mut Session,
    (schemas, names): (Option<&str>, Option<&str>),
    found: &[Seen],
    stop: &CancellationToken,
) -> Result<Shapes> {
    let mut columns: BTreeMap<i64, Vec<Column>> = BTreeMap::new();
    for batch in run::rows(session, COLUMNS, &patterns(schemas, names), stop).await? {
        let facts = texts(&batch, 2).zip(booleans(&batch, 3)).zip(texts(&batch, 4));
        let rows = numbers(&batch, 0).zip(texts(&batch, 1)).zip(facts);
        for ((of, name), ((type_name, not_null), remarks)) in rows {
            let (Some(of), Some(name), Some(type_name)) = (of, name, type_name) else { continue };
            let is_nullable = not_null != Some(true);
            let column = Column { name, type_name, is_nullable, remarks };
            columns.entry(of).or_default().push(column);
        }
    }
    let mut shapes = Shapes::new();
    for relation in found {
        let columns = columns.remove(&relation.oid).unwrap_or_default();
        let declared: Vec<_> = columns.iter().map(|it| types::named(&it.type_name).ok()).collect();
        let described = match declared.iter().any(Option::is_none) {
            true => described(session, relation, &columns, stop).await,
            false => HashMap::new(),
        };
        let fields: Vec<Field> = (columns.iter().zip(declared))
            .map(|(column, of)| field(relation, column, of, described.get(&column.name)))
            .collect();
        shapes.insert(relation.oid, Arc::new(Schema::new(fields)));
    }
    Ok(shapes)
}

/// The types of columns that no declaration tells, by what a query of them gives.
async fn described(
    session: &mut Session,
    relation: &Seen,
    columns: &[Column],
    stop: &CancellationToken,
) -> HashMap<String, DataType> {
    let name = RelationName { schema: Some(relation.schema.clone()), name: relation.name.clone() };
    let columns: Vec<String> = columns.iter().map(|it| quoted(&it.name)).collect();
    let text = format!("SELECT {} FROM {}", columns.join(", "), name.quoted());
    let statements = session.parse(&text).unwrap_or_default();
    let [statement] = statements.as_slice() else { return HashMap::new() };
    // Apart, since what one may not read is no failure of what the client has open.
    let Ok(mut beside) = session.beside().await else { return HashMap::new() };
    let Ok(described) = beside.describe(statement, &[], stop).await else {
        return HashMap::new();
    };
    let fields = described.columns.iter().flat_map(|it| it.fields().iter());
    fields.map(|field| (field.name().clone(), field.data_type().clone())).collect()
}

fn field(
    relation: &Seen,
    column: &Column,
    of: Option<Type>,
    described: Option<&DataType>,
) -> Field {
    let field = match (&of, described) {
        (Some(of), _) => of.to_field(&column.name, column.is_nullable),
        (None, Some(of)) => Field::new(&column.name, of.clone(), column.is_nullable),
        (None, None) => Field::new(&column.name, DataType::Utf8, column.is_nullable),
    };
    let (precision, scale) = match of {
        Some(Type::Numeric(precision, scale)) => (Some(u32::from(precision)), Some(scale)),
        Some(Type::Varchar(length)) => (Some(length), None),
        _ => (None, None),
    };
    let switch = |on: bool| Some(if on { "1" } else { "0" }.to_owned());
    let is_text = matches!(of, Some(Type::Text | Type::Varchar(_) | Type::Json));
    let facts = [
        ("CATALOG_NAME", Some(DATABASE.to_owned())),
        ("SCHEMA_NAME", Some(relation.schema.clone())),
        ("TABLE_NAME", Some(relation.name.clone())),
        ("TYPE_NAME", Some(column.type_name.clone())),
        ("PRECISION", precision.map(|it| it.to_string())),
        ("SCALE", scale.map(|it| it.to_string())),
        ("IS_AUTO_INCREMENT", switch(false)),
        ("IS_CASE_SENSITIVE", switch(is_text)),
        ("IS_READ_ONLY", switch(relation.table_type != "TABLE")),
        ("IS_SEARCHABLE", switch(true)),
        ("REMARKS", column.remarks.clone()),
    ];
    let mut metadata = field.metadata().clone();
    metadata.extend(facts.into_iter().filter_map(|(fact, value)| Some((key(fact), value?))));
    field.with_metadata(metadata)
}
