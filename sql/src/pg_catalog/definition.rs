//! What columns the system tables have, from the tables of PostgreSQL 15 themselves.
//!
//! What it guarantees: every column of every listed table is there, in PostgreSQL's order, with
//! PostgreSQL's type and oid, so that a client that reads by position reads right.
//! What it does not: it holds no row. `kho` is listed beside them, and built in `crate::system`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{Field, Schema, SchemaRef};
use kho_catalog::state::Oid;

use super::value::arrow_type;

/// `pg_catalog` and `information_schema` themselves.
pub const PG_CATALOG: Oid = 11;
pub const INFORMATION_SCHEMA: Oid = 13212;
/// Kho's own schema, of views, functions and procedures.
pub const KHO: Oid = 15000;
/// The schemas that are there before anyone makes one.
pub const SYSTEM_SCHEMAS: [(Oid, &str); 3] =
    [(PG_CATALOG, "pg_catalog"), (INFORMATION_SCHEMA, "information_schema"), (KHO, "kho")];
/// The field metadata key that tells the wire which PostgreSQL type a column has.
pub const TYPE_KEY: &str = kho_catalog::types::TYPE_KEY;

/// One system table.
#[derive(Debug)]
pub struct Definition {
    pub schema: &'static str,
    pub name: &'static str,
    pub oid: Oid,
    /// `r` or `v`; `f` for a function that gives rows.
    pub kind: &'static str,
    pub columns: Vec<Column>,
    pub arrow: SchemaRef,
}

/// One column of a system table.
#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    /// PostgreSQL's internal name, an array as `text[]`.
    pub pg_type: &'static str,
    pub not_null: bool,
}

struct Definitions {
    all: Vec<Definition>,
    by_name: HashMap<(&'static str, &'static str), usize>,
}

static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(|| {
    let all: Vec<Definition> =
        data_lines(include_str!("relations.txt")).filter_map(parse).collect();
    let by_name = all.iter().enumerate().map(|(at, it)| ((it.schema, it.name), at)).collect();
    Definitions { all, by_name }
});

/// Every system table.
pub fn all() -> impl Iterator<Item = &'static Definition> {
    DEFINITIONS.all.iter().filter(|it| it.kind != "f")
}

/// The system table of that name.
pub fn find(schema: &str, name: &str) -> Option<&'static Definition> {
    let at = DEFINITIONS.by_name.get(&(schema, name))?;
    DEFINITIONS.all.get(*at)
}

/// The system table of that oid.
pub fn by_oid(oid: Oid) -> Option<&'static Definition> {
    all().find(|it| it.oid == oid)
}

impl Definition {
    pub fn schema_oid(&self) -> Oid {
        let found = SYSTEM_SCHEMAS.iter().find(|(_, name)| *name == self.schema);
        found.map_or(PG_CATALOG, |(oid, _)| *oid)
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// The field of a column of PostgreSQL's type `pg_type`.
pub fn field(name: &str, pg_type: &str, nullable: bool) -> Field {
    let field = Field::new(name, arrow_type(pg_type), nullable);
    // Types that Arrow tells by itself need no mark.
    let plain = matches!(
        pg_type,
        "bool"
            | "int2"
            | "int4"
            | "int8"
            | "oid"
            | "oid[]"
            | "float4"
            | "float8"
            | "text"
            | "varchar"
            | "bytea"
            | "timestamptz"
            | "text[]"
            | "int2[]"
            | "float4[]"
            | "float8[]"
    );
    if plain {
        return field;
    }
    field.with_metadata(HashMap::from([(TYPE_KEY.to_owned(), pg_type.to_owned())]))
}

/// The lines of a data file that are not comments.
pub fn data_lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

fn parse(line: &'static str) -> Option<Definition> {
    let mut words = line.split(' ');
    let (schema, name) = (words.next()?, words.next()?);
    let (oid, kind) = (words.next()?.parse().ok()?, words.next()?);
    let columns: Vec<Column> = words
        .filter_map(|word| {
            let (name, declared) = word.split_once(':')?;
            let pg_type = declared.trim_end_matches('!');
            Some(Column { name, pg_type, not_null: declared.ends_with('!') })
        })
        .collect();
    let fields: Vec<Field> =
        columns.iter().map(|it| field(it.name, it.pg_type, !it.not_null)).collect();
    Some(Definition { schema, name, oid, kind, columns, arrow: Arc::new(Schema::new(fields)) })
}
