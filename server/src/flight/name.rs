//! Names of relations that a client gives as plain text, put into SQL.
//!
//! What it guarantees: a name is one identifier, whatever is in it, and cut like one, so that what was
//! made by a long name is found by it; what is no name is refused.

use kho_catalog::error::{Error, Kind, Result};
use kho_sql::parse::cut_name;

/// A relation, with or without its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationName {
    pub schema: Option<String>,
    pub name: String,
}

impl RelationName {
    /// # Errors
    /// `42602` for an empty part.
    pub fn new(schema: Option<String>, name: String) -> Result<RelationName> {
        if name.is_empty() || schema.as_deref().is_some_and(str::is_empty) {
            return Err(Error::new(Kind::InvalidName, "a table and its schema need names"));
        }
        let schema = schema.map(|schema| cut_name(&schema).to_owned());
        Ok(RelationName { schema, name: cut_name(&name).to_owned() })
    }

    /// The name as SQL has it.
    pub fn quoted(&self) -> String {
        let name = quoted(&self.name);
        match &self.schema {
            Some(schema) => format!("{}.{name}", quoted(schema)),
            None => name,
        }
    }
}

/// `name` as an identifier of SQL that stands for exactly that.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The column that a loader calls `name`, as SQL has it.
pub fn column(name: &str) -> String {
    quoted(cut_name(name))
}

/// `text` as a literal of SQL that stands for exactly that.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
