//! Who may do what: one pure function over a state of the catalog.
//!
//! What it is: [`decide`] answers allowed, denied or hidden for a principal and an action, by
//! roles, transitive membership, ownership and grants (PostgreSQL's model).
//! What it guarantees: nothing is allowed unless somebody owns it or was granted it; managing
//! accounts gives no sight of data; what one has no right on is `Hidden`, and the error for it is
//! the one for a thing that does not exist, word for word.
//! What it does not: it decides about relations and columns; which columns a statement uses is
//! `sql::authorize`'s to find, and row policies and masks come on top. It does not remember: ask
//! again with the newest state for every statement.
//! On failure: an unknown role, or one that was dropped, has no rights at all.

mod column;
mod membership;
#[cfg(test)]
mod tests;
mod within;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use self::column::{COLUMN_PRIVILEGES, has_any_column_privilege, readable_columns};
pub use self::membership::{bypass_allowed, may_administer, membership_allowed, reaches_data};
use self::within::narrowed;
pub use self::within::{Covered, Reach, Within};
use crate::error::{Error, Kind, Result};
use crate::state::{Grant, Oid, PUBLIC, Privilege, Relation, RelationKind, Schema, State};

/// `kho_admin`: manages accounts and schemas, and sees no data by it.
pub const KHO_ADMIN: Oid = 10;

/// `kho_auditor`: sees what was asked and what decides about it, and no data by it.
pub const KHO_AUDITOR: Oid = 11;

/// A role with everything it is by membership, in one state of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    role: Oid,
    effective: BTreeSet<Oid>,
    /// What leaves a session less than its role.
    within: Option<Arc<Within>>,
}

/// What a principal may want to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Warehouse(WarehouseAction),
    Schema(Oid, SchemaAction),
    Relation(Oid, RelationAction),
    /// The column with this id of a relation.
    Column(Oid, u32, ColumnAction),
}

macro_rules! actions {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every one, so that the policy matrix can be tested to be whole.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The name in the policy matrix.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

actions! {
    /// What concerns no single object.
    WarehouseAction {
        CreateSchema = "create_schema",
        /// Making, changing and dropping roles; memberships have [`membership_allowed`].
        ManageRoles = "manage_roles",
    }
}

actions! {
    SchemaAction {
        /// Know that it exists.
        See = "see",
        /// Reach what is in it (`USAGE`).
        Use = "use",
        CreateIn = "create_in",
        /// Change, drop, grant.
        Own = "own",
    }
}

actions! {
    RelationAction {
        /// Know that it exists, and its columns.
        See = "see",
        Select = "select",
        Insert = "insert",
        Update = "update",
        Delete = "delete",
        Truncate = "truncate",
        /// Read at least one column: what `count(*)` needs.
        SelectAny = "select_any",
        /// Insert a row with a value for at least one column.
        InsertAny = "insert_any",
        /// Give at least one column new values.
        UpdateAny = "update_any",
        /// Change, comment, grant.
        Own = "own",
        /// The owner of the schema may, too.
        Drop = "drop",
    }
}

actions! {
    /// What is done to one column. Its name is known to whom the relation exists for.
    ColumnAction {
        Select = "select",
        Insert = "insert",
        Update = "update",
    }
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed(Reason),
    /// The principal knows the object, and may not do this to it (`42501`).
    Denied,
    /// For this principal the object does not exist (`42P01`, `3F000`).
    Hidden,
}

/// By what something is allowed; for the audit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// This role of the principal owns the object.
    Owner(Oid),
    /// This role of the principal owns the schema that the object is in.
    SchemaOwner(Oid),
    /// Granted to this role, which may be [`PUBLIC`].
    Grant(Oid),
    /// What this built-in role is for.
    Role(Oid),
}

impl Principal {
    /// `role` and all it belongs to, directly or not, and [`PUBLIC`].
    pub fn of(state: &State, role: Oid) -> Principal {
        let mut effective = BTreeSet::new();
        let mut open = vec![role];
        while let Some(oid) = open.pop() {
            let Some(found) = state.roles.get(&oid) else { continue };
            if effective.insert(oid) {
                open.extend(found.member_of.keys().copied());
            }
        }
        if !effective.is_empty() {
            effective.insert(PUBLIC);
        }
        Principal { role, effective, within: None }
    }

    /// The role itself.
    pub fn role(&self) -> Oid {
        self.role
    }

    /// Whether this is `role` or belongs to it.
    pub fn is(&self, role: Oid) -> bool {
        self.effective.contains(&role)
    }

    /// Every role this principal acts with.
    pub fn effective(&self) -> &BTreeSet<Oid> {
        &self.effective
    }
}

/// Whether `who` may do `action`.
pub fn decide(state: &State, who: &Principal, action: Action) -> Decision {
    narrowed(state, who, action, decide_for_role(state, who, action))
}

/// The same without what leaves a session less than its role.
fn decide_for_role(state: &State, who: &Principal, action: Action) -> Decision {
    match action {
        Action::Warehouse(WarehouseAction::CreateSchema | WarehouseAction::ManageRoles) => {
            admin(who).map_or(Decision::Denied, Decision::Allowed)
        }
        Action::Schema(oid, action) => match state.schemas.get(&oid) {
            Some(schema) => decide_schema(who, schema, action),
            None => Decision::Hidden,
        },
        Action::Relation(oid, action) => {
            let relation = state.relations.get(&oid);
            match relation.and_then(|it| Some((state.schemas.get(&it.schema)?, it))) {
                Some((schema, relation)) => decide_relation(who, schema, relation, action),
                None => Decision::Hidden,
            }
        }
        Action::Column(oid, column, action) => column::decide(state, who, oid, column, action),
    }
}

/// [`decide`], with an error in PostgreSQL's words unless it is allowed.
pub fn require(state: &State, who: &Principal, action: Action) -> Result<Reason> {
    match decide(state, who, action) {
        Decision::Allowed(reason) => Ok(reason),
        Decision::Denied => {
            let error = denied(state, action);
            let is_the_roles = allowed(decide_for_role(state, who, action));
            Err(if is_the_roles { error.with_hint(within::HINT) } else { error })
        }
        Decision::Hidden => Err(hidden(state, action)),
    }
}

/// The schema `name`, if it exists for `who`.
pub fn find_schema<'a>(state: &'a State, who: &Principal, name: &str) -> Result<&'a Arc<Schema>> {
    state
        .schema(name)
        .filter(|schema| sees_schema(state, who, schema))
        .ok_or_else(|| no_schema(name))
}

/// The relation `name` in the schema named `schema`, if it exists for `who`. `written` is how the
/// user wrote it, for the error.
pub fn find_relation<'a>(
    state: &'a State,
    who: &Principal,
    schema: &str,
    name: &str,
    written: &str,
) -> Result<&'a Arc<Relation>> {
    let found = state.schema(schema).and_then(|schema| {
        let relation = state.relation(schema.oid, name)?;
        sees_relation(state, who, schema, relation).then_some(relation)
    });
    found.ok_or_else(|| no_relation(written))
}

/// The schemas that exist for `who`, by id.
pub fn visible_schemas<'a>(
    state: &'a State,
    who: &'a Principal,
) -> impl Iterator<Item = &'a Arc<Schema>> {
    state.schemas.values().filter(|schema| sees_schema(state, who, schema))
}

/// The relations that exist for `who`, by schema and name.
pub fn visible_relations<'a>(
    state: &'a State,
    who: &'a Principal,
) -> impl Iterator<Item = &'a Arc<Relation>> {
    visible_schemas(state, who).flat_map(move |schema| {
        state
            .relations_of(schema.oid)
            .filter(move |relation| sees_relation(state, who, schema, relation))
    })
}

/// Whether `who` holds `privilege` on the relation `oid` (`has_table_privilege`); `USAGE` and
/// `CREATE` are no rights on relations.
pub fn has_privilege(state: &State, who: &Principal, oid: Oid, privilege: Privilege) -> bool {
    let action = match privilege {
        Privilege::Select => RelationAction::Select,
        Privilege::Insert => RelationAction::Insert,
        Privilege::Update => RelationAction::Update,
        Privilege::Delete => RelationAction::Delete,
        Privilege::Truncate => RelationAction::Truncate,
        Privilege::Usage | Privilege::Create => return false,
    };
    allowed(decide(state, who, Action::Relation(oid, action)))
}

/// Whether `who` holds `privilege` on the schema `oid` (`has_schema_privilege`).
pub fn has_schema_privilege(
    state: &State,
    who: &Principal,
    oid: Oid,
    privilege: Privilege,
) -> bool {
    let action = match privilege {
        Privilege::Usage => SchemaAction::Use,
        Privilege::Create => SchemaAction::CreateIn,
        _ => return false,
    };
    allowed(decide(state, who, Action::Schema(oid, action)))
}

/// The role in whose name `who` may grant `privilege` on an object with this owner and these
/// grants, or on one `column` of it: the owner, or one that holds it `WITH GRANT OPTION`. Of
/// several such roles it is the principal itself, if it is among them.
pub fn grantor_for(
    who: &Principal,
    owner: Oid,
    grants: &[Grant],
    privilege: Privilege,
    column: Option<u32>,
) -> Option<Oid> {
    if who.is(owner) {
        return Some(owner);
    }
    // Who may give a right on the whole may give it on each part.
    let covers = |it: &&Grant| it.column.is_none() || it.column == column;
    let holds = |it: &&Grant| it.grantable && it.privilege == privilege && who.is(it.grantee);
    let held = || grants.iter().filter(covers).filter(holds).map(|grant| grant.grantee);
    held().find(|role| *role == who.role()).or_else(|| held().next())
}

fn sees_schema(state: &State, who: &Principal, schema: &Schema) -> bool {
    let seen = decide_schema(who, schema, SchemaAction::See);
    allowed(narrowed(state, who, Action::Schema(schema.oid, SchemaAction::See), seen))
}

fn sees_relation(state: &State, who: &Principal, schema: &Schema, relation: &Relation) -> bool {
    let seen = decide_relation(who, schema, relation, RelationAction::See);
    allowed(narrowed(state, who, Action::Relation(relation.oid, RelationAction::See), seen))
}

fn decide_schema(who: &Principal, schema: &Schema, action: SchemaAction) -> Decision {
    let owner = || who.is(schema.owner).then_some(Reason::Owner(schema.owner));
    let granted = |privilege| granted(who, &schema.grants, privilege);
    let see = || owner().or_else(|| granted_any(who, &schema.grants)).or_else(|| admin(who));
    let reason = match action {
        SchemaAction::See => see(),
        SchemaAction::Use => owner().or_else(|| granted(Privilege::Usage)),
        SchemaAction::CreateIn => owner().or_else(|| granted(Privilege::Create)),
        SchemaAction::Own => owner(),
    };
    match reason {
        Some(reason) => Decision::Allowed(reason),
        None if see().is_some() => Decision::Denied,
        None => Decision::Hidden,
    }
}

fn decide_relation(
    who: &Principal,
    schema: &Schema,
    relation: &Relation,
    action: RelationAction,
) -> Decision {
    if !allowed(decide_schema(who, schema, SchemaAction::Use)) {
        return Decision::Hidden;
    }
    let owner = || who.is(relation.owner).then_some(Reason::Owner(relation.owner));
    let of_schema = || who.is(schema.owner).then_some(Reason::SchemaOwner(schema.owner));
    let holds = |privilege| owner().or_else(|| granted(who, &relation.grants, privilege));
    let holds_any =
        |privilege| holds(privilege).or_else(|| column::granted_any(who, relation, privilege));
    let see = || {
        let held = owner().or_else(|| granted_any(who, &relation.grants));
        held.or_else(|| column::granted_some(who, relation)).or_else(of_schema)
    };
    let reason = match action {
        RelationAction::See => see(),
        RelationAction::Select => holds(Privilege::Select),
        RelationAction::Insert => holds(Privilege::Insert),
        RelationAction::Update => holds(Privilege::Update),
        RelationAction::Delete => holds(Privilege::Delete),
        RelationAction::Truncate => holds(Privilege::Truncate),
        RelationAction::SelectAny => holds_any(Privilege::Select),
        RelationAction::InsertAny => holds_any(Privilege::Insert),
        RelationAction::UpdateAny => holds_any(Privilege::Update),
        RelationAction::Own => owner(),
        RelationAction::Drop => owner().or_else(of_schema),
    };
    match reason {
        Some(reason) => Decision::Allowed(reason),
        None if see().is_some() => Decision::Denied,
        None => Decision::Hidden,
    }
}

fn admin(who: &Principal) -> Option<Reason> {
    who.is(KHO_ADMIN).then_some(Reason::Role(KHO_ADMIN))
}

/// By which grant on the whole object `who` holds `privilege`.
fn granted(who: &Principal, grants: &[Grant], privilege: Privilege) -> Option<Reason> {
    let mut held = of_whole(who, grants).filter(|it| it.privilege == privilege);
    held.next().map(|grant| Reason::Grant(grant.grantee))
}

/// By which grant on the whole object `who` holds any right.
fn granted_any(who: &Principal, grants: &[Grant]) -> Option<Reason> {
    of_whole(who, grants).next().map(|grant| Reason::Grant(grant.grantee))
}

fn of_whole<'a>(who: &'a Principal, grants: &'a [Grant]) -> impl Iterator<Item = &'a Grant> {
    grants.iter().filter(|it| it.column.is_none() && who.is(it.grantee))
}

fn allowed(decision: Decision) -> bool {
    matches!(decision, Decision::Allowed(_))
}

fn denied(state: &State, action: Action) -> Error {
    let message = match action {
        Action::Warehouse(WarehouseAction::CreateSchema) => {
            "permission denied to create schema".to_owned()
        }
        Action::Warehouse(WarehouseAction::ManageRoles) => {
            "permission denied to manage roles".to_owned()
        }
        Action::Schema(oid, action) => {
            let name = state.schemas.get(&oid).map_or("?", |schema| &schema.name);
            match action {
                SchemaAction::Own => format!("must be owner of schema {name}"),
                _ => format!("permission denied for schema {name}"),
            }
        }
        Action::Column(oid, _, _) => {
            return denied(state, Action::Relation(oid, RelationAction::SelectAny));
        }
        Action::Relation(oid, action) => {
            let relation = state.relations.get(&oid);
            let name = relation.map_or("?", |relation| &relation.name);
            let kind = match relation.map(|relation| &relation.kind) {
                Some(RelationKind::View(_)) => "view",
                _ => "table",
            };
            match action {
                RelationAction::Own | RelationAction::Drop => {
                    format!("must be owner of {kind} {name}")
                }
                _ => format!("permission denied for {kind} {name}"),
            }
        }
    };
    let error = Error::new(Kind::InsufficientPrivilege, message);
    match action {
        Action::Warehouse(_) => error.with_hint("Members of kho_admin may."),
        _ => error,
    }
}

/// The error for what does not exist. The name is the catalog's own, which the caller has from a
/// name the user wrote; [`find_relation`] is for names that are yet to be looked up.
fn hidden(state: &State, action: Action) -> Error {
    match action {
        Action::Warehouse(_) => denied(state, action),
        Action::Schema(oid, _) => match state.schemas.get(&oid) {
            Some(schema) => no_schema(&schema.name),
            None => no_schema(&oid.to_string()),
        },
        Action::Relation(oid, _) | Action::Column(oid, _, _) => {
            let relation = state.relations.get(&oid);
            match relation.and_then(|it| Some((state.schemas.get(&it.schema)?, it))) {
                Some((schema, it)) => no_relation(&format!("{}.{}", schema.name, it.name)),
                None => no_relation(&oid.to_string()),
            }
        }
    }
}

fn no_schema(name: &str) -> Error {
    Error::new(Kind::UndefinedSchema, format!("schema \"{name}\" does not exist"))
}

fn no_relation(name: &str) -> Error {
    Error::new(Kind::UndefinedTable, format!("relation \"{name}\" does not exist"))
}
