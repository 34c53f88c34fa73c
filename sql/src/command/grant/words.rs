//! The rights that a `GRANT` or `REVOKE` names, for one object.

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::COLUMN_PRIVILEGES;
use kho_catalog::state::{Privilege, Relation};

use super::name::fold;
use crate::parse::Right;

pub(super) const ON_SCHEMA: &[Privilege] = &[Privilege::Usage, Privilege::Create];
pub(super) const ON_RELATION: &[Privilege] = &[
    Privilege::Select,
    Privilege::Insert,
    Privilege::Update,
    Privilege::Delete,
    Privilege::Truncate,
];

/// What is asked for on one object.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub whole: Vec<Privilege>,
    /// Whether that is all there are: what cannot be given then is passed over in silence.
    pub all: bool,
    /// The same for columns, by id.
    pub columns: Vec<(u32, Vec<Privilege>, bool)>,
}

pub(super) fn on_schema(rights: &[Right]) -> Result<Wanted> {
    let (whole, all) = on_whole(rights, ON_SCHEMA, "schema")?;
    match rights.iter().any(|right| !right.columns.is_empty()) {
        true => {
            let message = "column privileges are only valid for relations";
            Err(Error::new(Kind::InvalidGrantOperation, message))
        }
        false => Ok(Wanted { whole, all, columns: Vec::new() }),
    }
}

pub(super) fn on_relation(rights: &[Right], relation: &Relation) -> Result<Wanted> {
    let (whole, all) = on_whole(rights, ON_RELATION, "table")?;
    let mut wanted = Wanted { whole, all, columns: Vec::new() };
    for right in rights.iter().filter(|right| !right.columns.is_empty()) {
        let privileges = match right.name.as_str() {
            "ALL" => COLUMN_PRIVILEGES.to_vec(),
            name => vec![one_of(name, COLUMN_PRIVILEGES, "column")?],
        };
        for column in right.columns.iter().map(fold) {
            let Some(found) = relation.column(&column) else {
                let table = &relation.name;
                let message = format!("column \"{column}\" of relation \"{table}\" does not exist");
                return Err(Error::new(Kind::UndefinedColumn, message));
            };
            let all = right.name == "ALL";
            match wanted.columns.iter_mut().find(|(id, _, _)| *id == found.id) {
                Some((_, known, is_all)) => {
                    *is_all |= all;
                    add(known, &privileges);
                }
                None => wanted.columns.push((found.id, privileges.clone(), all)),
            }
        }
    }
    Ok(wanted)
}

/// The rights on the whole object, and whether they are all of them.
pub(super) fn on_whole(
    rights: &[Right],
    known: &[Privilege],
    kind: &str,
) -> Result<(Vec<Privilege>, bool)> {
    let (mut found, mut all) = (Vec::new(), false);
    for right in rights.iter().filter(|right| right.columns.is_empty()) {
        match right.name.as_str() {
            "ALL" => {
                all = true;
                add(&mut found, known);
            }
            name => add(&mut found, &[one_of(name, known, kind)?]),
        }
    }
    Ok((found, all))
}

fn add(to: &mut Vec<Privilege>, more: &[Privilege]) {
    for privilege in more {
        if !to.contains(privilege) {
            to.push(*privilege);
        }
    }
}

fn one_of(name: &str, known: &[Privilege], kind: &str) -> Result<Privilege> {
    let privilege = match name {
        "SELECT" => Privilege::Select,
        "INSERT" => Privilege::Insert,
        "UPDATE" => Privilege::Update,
        "DELETE" => Privilege::Delete,
        "TRUNCATE" => Privilege::Truncate,
        "USAGE" => Privilege::Usage,
        "CREATE" => Privilege::Create,
        "REFERENCES" | "TRIGGER" if kind != "schema" => {
            let message = format!("the privilege {name} is not supported");
            return Err(Error::unsupported(message)
                .with_hint("There are neither foreign keys nor triggers."));
        }
        "REFERENCES" | "TRIGGER" | "EXECUTE" | "CONNECT" | "TEMPORARY" | "TEMP" | "SET"
        | "ALTER" => return Err(invalid(name, kind)),
        _ => {
            let name = name.to_ascii_lowercase();
            let message = format!("unrecognized privilege type \"{name}\"");
            return Err(Error::new(Kind::Syntax, message));
        }
    };
    match known.contains(&privilege) {
        true => Ok(privilege),
        false => Err(invalid(name, kind)),
    }
}

fn invalid(name: &str, kind: &str) -> Error {
    let message = format!("invalid privilege type {name} for {kind}");
    Error::new(Kind::InvalidGrantOperation, message)
}
