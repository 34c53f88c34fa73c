//! Which rows a role may see and write, and what it sees in place of a value.
//!
//! What it is: policies ([`Policy`]) with PostgreSQL's semantics, masks ([`Mask`]) on columns and on
//! tags, and the pure functions that say which of them hold for a principal.
//! What it guarantees: a table whose row security is on and that has no permissive policy for a
//! role and a command gives that role no row. The owner is exempt unless it is forced, and so is a
//! role with `BYPASSRLS`; from masks nobody is exempt but the roles that a mask names.
//! What it does not: it knows expressions as texts alone. In them a column of the table is written
//! by its id (see [`column_name`]), so that renaming a column frees nothing.
//! On failure: none; these are pure functions.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::privilege::Principal;
use crate::state::{Column, Oid, PUBLIC, Relation, State, Table};
use crate::text::Text;

/// Whether and for whom the policies of a table hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSecurity {
    pub enabled: bool,
    /// They hold for the owner, too.
    pub forced: bool,
}

/// `CREATE POLICY`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub oid: Oid,
    pub name: String,
    /// `AS PERMISSIVE`: one of them must hold; `AS RESTRICTIVE`: all of them must.
    pub permissive: bool,
    pub command: PolicyCommand,
    /// [`PUBLIC`] is everyone.
    pub roles: Vec<Oid>,
    /// What rows that are there must satisfy.
    pub using: Option<Text>,
    /// What rows that are written must satisfy; `None` is the same as `using`.
    pub with_check: Option<Text>,
    /// The relations that its expressions read: what cannot be dropped while it is there.
    #[serde(default)]
    pub depends_on: Vec<Oid>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyCommand {
    All,
    Select,
    Insert,
    Update,
    Delete,
}

impl PolicyCommand {
    pub const fn name(self) -> &'static str {
        match self {
            PolicyCommand::All => "ALL",
            PolicyCommand::Select => "SELECT",
            PolicyCommand::Insert => "INSERT",
            PolicyCommand::Update => "UPDATE",
            PolicyCommand::Delete => "DELETE",
        }
    }
}

/// What stands in place of a column's value for all but a few roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// An expression over `value`, of the column's type.
    pub using: Text,
    /// Those who see the value, and their members.
    pub except_roles: Vec<Oid>,
}

/// A word of the governed vocabulary that columns are labelled with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    pub name: String,
    pub description: Text,
    /// Masks on every column that has the tag, in the datasets of each owner that set one.
    pub masks: Vec<TagMask>,
}

/// The mask that one owner, or `kho_admin` for all, put on a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagMask {
    /// Whose datasets it covers; `None` is everyone's.
    pub owner: Option<Oid>,
    pub mask: Mask,
}

/// The tags that every warehouse has.
pub const SHIPPED_TAGS: &[(&str, &str)] = &[
    ("personal", "concerns a person"),
    ("sensitive", "harms a person when it gets out"),
    ("national_id", "number of an identity document"),
    ("phone", "telephone number"),
    ("email", "address of electronic mail"),
    ("address", "where somebody lives"),
    ("birth_date", "when somebody was born"),
    ("health", "somebody's health"),
    ("financial", "somebody's money"),
    ("location", "where somebody is or was"),
];

/// The policies that hold for a principal and a command.
#[derive(Clone, Debug, Default)]
pub struct Applied<'a> {
    /// One must hold; with none, no row does.
    pub permissive: Vec<&'a Policy>,
    /// All must hold.
    pub restrictive: Vec<&'a Policy>,
}

/// The policies for `who` and `command` on a table; `None` where it is exempt from them.
pub fn applied<'a>(
    state: &State,
    relation: &'a Relation,
    who: &Principal,
    command: PolicyCommand,
) -> Option<Applied<'a>> {
    let table = relation.table()?;
    if is_exempt(state, relation, table, who) {
        return None;
    }
    let mut applied = Applied::default();
    for policy in table.policies.iter().filter(|policy| policy.covers(who, command)) {
        match policy.permissive {
            true => applied.permissive.push(policy),
            false => applied.restrictive.push(policy),
        }
    }
    // PostgreSQL tells of the first by name that fails.
    applied.restrictive.sort_by(|one, other| one.name.cmp(&other.name));
    Some(applied)
}

/// Whether policies of `relation` decide about `who`.
pub fn is_policied(state: &State, relation: &Relation, who: &Principal) -> bool {
    relation.table().is_some_and(|table| !is_exempt(state, relation, table, who))
}

fn is_exempt(state: &State, relation: &Relation, table: &Table, who: &Principal) -> bool {
    let bypasses = state.roles.get(&who.role()).is_some_and(|role| role.bypass_rls);
    !table.row_security.enabled
        || bypasses
        || (who.is(relation.owner) && !table.row_security.forced)
}

impl Policy {
    fn covers(&self, who: &Principal, command: PolicyCommand) -> bool {
        let of_command = self.command == PolicyCommand::All || self.command == command;
        of_command && self.roles.iter().any(|role| *role == PUBLIC || who.is(*role))
    }
}

/// The masks that cover `column` of `relation` for `who`: its own, and those of its tags, of the
/// owner and of `kho_admin`. Each text is there once. Where two are left, nothing of the value may
/// be shown: what one of them made of it could tell what the other was to hide.
pub fn masks<'a>(
    state: &'a State,
    relation: &Relation,
    column: &'a Column,
    who: &Principal,
) -> Vec<&'a Mask> {
    let mut found = all_masks(state, relation, column);
    found.retain(|mask| !mask.except_roles.iter().any(|role| who.is(*role)));
    let mut texts = BTreeSet::new();
    found.retain(|mask| texts.insert(mask.using.value()));
    found
}

/// The masks that cover `column` of `relation` for anybody.
pub fn all_masks<'a>(state: &'a State, relation: &Relation, column: &'a Column) -> Vec<&'a Mask> {
    let mut found: Vec<&Mask> = column.mask.iter().chain(&column.inherited).collect();
    for tag in column.tags.iter().filter_map(|tag| state.tags.get(tag)) {
        let covers = |it: &&TagMask| it.owner.is_none_or(|owner| owner == relation.owner);
        found.extend(tag.masks.iter().filter(covers).map(|it| &it.mask));
    }
    found
}

/// What a mask's expression calls the value that it stands for.
pub const VALUE: &str = "value";

/// How the texts of policies write the column with this id.
pub fn column_name(id: u32) -> String {
    format!("\u{1}{id}")
}
