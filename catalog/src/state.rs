//! The catalog at one version: an immutable value built from the log.
//!
//! What it is: every role, schema, dataset and view, by object id. A [`Change`] puts one whole
//! object or removes one; [`State::apply`] is the only way from one state to the next.
//! What it guarantees: applying the same changes gives the same state, on every server.
//! What it does not: it checks no right and no rule; `sql::command` does, before it commits.

mod access;
mod credential;
mod limits;
mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::access::{
    Access, AccessChange, Agreement, Answer, Ended, Freeze, Purpose, Purposes, Request, ThirdParty,
    Tied, Verdict,
};
pub use self::credential::{ApiToken, Identity, IdentityKind, Revoked};
pub use self::limits::{LimitName, Quota, RoleLimits};
use crate::audit::{Anchor, Rotation};
use crate::policy::{Mask, Policy, RowSecurity, Tag};
use crate::text::Text;
use crate::types::Type;

/// Object id, unique in the warehouse, never used again. Ids below 16384 are Kho's own.
pub type Oid = u32;

/// The pseudo role that everyone belongs to.
pub const PUBLIC: Oid = 0;
/// The first id given to what users make; below it are built-in objects.
pub const FIRST_USER_OID: Oid = 16384;

/// Roles that every warehouse has; none of them reads data by itself.
pub const BUILT_IN_ROLES: &[(Oid, &str)] = &[
    (10, "kho_admin"),
    (11, "kho_auditor"),
    (12, "kho_operator"),
    (13, "kho_destruction_approver"),
];

/// What exists at one version of the catalog log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The version of the last entry applied; 0 is the entry that made the warehouse.
    pub version: u64,
    /// SHA-256 of that entry, in hexadecimal: what the next entry must name.
    pub head: String,
    pub next_oid: Oid,
    pub roles: BTreeMap<Oid, Arc<Role>>,
    pub schemas: BTreeMap<Oid, Arc<Schema>>,
    pub relations: BTreeMap<Oid, Arc<Relation>>,
    /// By statement. There is one only while an `ALTER TABLE` commits, and where one was cut off.
    #[serde(default)]
    pub announced: BTreeMap<String, Arc<Reshaping>>,
    /// The vocabulary of labels on columns, by name.
    #[serde(default)]
    pub tags: BTreeMap<String, Arc<Tag>>,
    #[serde(default)]
    pub access: Access,
    #[serde(default)]
    pub ledger: LedgerState,
    #[serde(skip)]
    names: BTreeMap<(Oid, String), Oid>,
    /// Another one after each change of what is here but the ledger's heads, which come every second.
    #[serde(skip)]
    meaning: Arc<()>,
}

/// What the catalog knows of the audit ledger.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LedgerState {
    /// The public keys that its heads were ever signed by, as text; the last one is in use.
    pub keys: Vec<String>,
    /// By which each of them came into the place of the one before.
    #[serde(default)]
    pub rotations: Vec<Rotation>,
    /// The newest signed head of each server that got here.
    pub anchors: BTreeMap<String, Arc<Anchor>>,
}

/// An account, a group of accounts, or both (PostgreSQL's meaning).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    pub oid: Oid,
    pub name: String,
    pub login: bool,
    /// A SCRAM-SHA-256 verifier in PostgreSQL's form, `SCRAM-SHA-256$i:salt$stored:server`.
    pub verifier: Option<String>,
    /// Roles this one belongs to, and whether it may grant that membership on.
    pub member_of: BTreeMap<Oid, MembershipOption>,
    /// Most connections at one time; `None` is no limit of its own.
    pub connection_limit: Option<u32>,
    /// Milliseconds since the epoch after which the password no longer works.
    pub valid_until_ms: Option<i64>,
    pub comment: Option<Text>,
    /// Exempt from row policies (`BYPASSRLS`). No member has it by membership.
    #[serde(default)]
    pub bypass_rls: bool,
    /// What policies can ask of a role (`kho.role_attribute`), by name.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// What is given with each object that this role makes (`ALTER DEFAULT PRIVILEGES`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub default_grants: Vec<DefaultGrant>,
}

/// A right that comes with an object which a role makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultGrant {
    /// The schema in which it holds; `None` is every schema.
    pub schema: Option<Oid>,
    pub on: DefaultOn,
    pub grantee: Oid,
    pub privilege: Privilege,
    pub grantable: bool,
}

/// What kind of object a [`DefaultGrant`] is about; views are among the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultOn {
    Tables,
    Schemas,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipOption {
    Member,
    Admin,
}

/// One agency's datasets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub oid: Oid,
    pub name: String,
    pub owner: Oid,
    pub grants: Vec<Grant>,
    pub comment: Option<Text>,
}

/// A dataset (a table with its governance) or a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    pub oid: Oid,
    pub schema: Oid,
    pub name: String,
    pub owner: Oid,
    pub columns: Vec<Column>,
    pub grants: Vec<Grant>,
    pub comment: Option<Text>,
    pub kind: RelationKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    Table(Table),
    View(View),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The folder of the table: `tables/<dataset>/<generation>/` below the root.
    pub dataset: String,
    pub generation: u32,
    /// The next column id; ids are never used again.
    pub next_column: u32,
    pub checks: Vec<Check>,
    /// In the order they were declared, the primary key first.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// What it is searched by besides its keys, in the order it was declared; nothing of it is
    /// enforced.
    #[serde(default)]
    pub indexes: Vec<Key>,
    /// Columns that were dropped while they had a mask or tags: old versions still have them.
    #[serde(default)]
    pub dropped: Vec<Column>,
    #[serde(default)]
    pub row_security: RowSecurity,
    /// By name.
    #[serde(default)]
    pub policies: Vec<Policy>,
    pub governance: Governance,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The query, every relation in it named with its schema.
    pub query: Text,
    /// The relations it reads, by id: what cannot be dropped while it is there.
    #[serde(default)]
    pub depends_on: Vec<Oid>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Stable within its relation: renaming keeps it, a dropped column's id is not given again.
    pub id: u32,
    pub name: String,
    pub data_type: Type,
    pub not_null: bool,
    /// The text of the `DEFAULT` expression.
    pub default: Option<Text>,
    pub comment: Option<Text>,
    #[serde(default)]
    pub mask: Option<Mask>,
    /// The masks of the columns that its values were copied from.
    #[serde(default)]
    pub inherited: Vec<Mask>,
    /// Labels of the governed vocabulary.
    #[serde(default)]
    pub tags: BTreeSet<String>,
}

/// A `CHECK` constraint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub expression: Text,
}

/// What a table is searched by. A `PRIMARY KEY` or `UNIQUE` constraint is also enforced: no two rows
/// agree on all its columns, and a row with a NULL in one of them agrees with none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub name: String,
    pub kind: KeyKind,
    /// The ids of its columns, in the order they were declared in.
    pub columns: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    Primary,
    Unique,
    /// Of `CREATE INDEX`: a promise about files alone. It is never among a table's `keys`.
    Index,
}

/// What a table becomes once its own log says so. A table's columns change in two logs: this is
/// committed before the table's commit, so that whoever finds one can tell what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reshaping {
    pub relation: Oid,
    pub role: Oid,
    /// The id that the table's commit names.
    pub statement: String,
    /// The version that the commit makes, or that another made in its place.
    pub version: u64,
    pub columns: Vec<Column>,
    pub next_column: u32,
    pub checks: Vec<Check>,
    pub keys: Vec<Key>,
    /// The names of the checks and keys it began with; what was changed of them meanwhile stays
    /// changed.
    pub rules_before: Vec<String>,
    /// Views that go with a column.
    pub removed: Vec<Oid>,
}

/// The options of `CREATE TABLE … WITH (…)` that say how a dataset is governed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Governance {
    pub classification: Classification,
    /// ISO 8601 durations, as given.
    pub update_frequency: Option<String>,
    pub retention: Option<String>,
    /// The id of the column retention is counted from.
    pub retention_column: Option<u32>,
    /// Purpose codes; empty is every purpose.
    pub allowed_purposes: BTreeSet<String>,
    pub requires_agreement: bool,
}

/// How far a dataset may go. State secrets have no place here: they are refused at every door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classification {
    Open,
    Internal,
    Restricted,
    Personal,
}

impl Classification {
    pub const ALL: &'static [Classification] = &[
        Classification::Open,
        Classification::Internal,
        Classification::Restricted,
        Classification::Personal,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Classification::Open => "open",
            Classification::Internal => "internal",
            Classification::Restricted => "restricted",
            Classification::Personal => "personal",
        }
    }
}

/// One right on one object, from one role to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub grantee: Oid,
    pub grantor: Oid,
    pub privilege: Privilege,
    /// `WITH GRANT OPTION`.
    pub grantable: bool,
    /// The id of the one column that it is about; `None` is the whole object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Privilege {
    Usage,
    Create,
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
}

/// One step from a state to the next: a whole object put in place, or one taken away.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    PutRole(Role),
    RemoveRole(Oid),
    PutSchema(Schema),
    RemoveSchema(Oid),
    PutRelation(Box<Relation>),
    RemoveRelation(Oid),
    Announce(Box<Reshaping>),
    /// Takes the announcement of this statement back, whatever became of it.
    Withdraw(String),
    PutTag(Tag),
    RemoveTag(String),
    Access(AccessChange),
    /// A public key of the audit ledger, in use from now on.
    PutLedgerKey(String),
    /// Another public key of the audit ledger, in use from now on.
    RotateLedgerKey(Box<Rotation>),
    /// A signed head of a server's audit ledger, in place of the one before.
    PutAnchor(Box<Anchor>),
}

impl State {
    /// The state after `changes`; version and head are the log's to set.
    #[must_use]
    pub fn apply(&self, changes: &[Change]) -> State {
        let mut next = self.clone();
        next.apply_entry(changes.to_vec(), self.version, self.head.clone());
        next
    }

    /// Takes one entry of the log in, in place: replaying many must not copy the state each time.
    pub(crate) fn apply_entry(&mut self, changes: Vec<Change>, version: u64, head: String) {
        if changes.iter().any(|change| !matches!(change, Change::PutAnchor(_))) {
            self.meaning = Arc::default();
        }
        for change in changes {
            self.apply_one(change);
        }
        self.version = version;
        self.head = head;
    }

    /// What stays the same thing as long as nothing changes but what is known of the ledger's heads: what
    /// was made of a state with the same one would be made of this state, too.
    pub fn meaning(&self) -> &Arc<()> {
        &self.meaning
    }

    /// Whether no entry was ever applied.
    pub fn is_new(&self) -> bool {
        self.head.is_empty()
    }

    /// The version of the entry that comes next.
    pub fn next_version(&self) -> u64 {
        if self.is_new() { 0 } else { self.version.saturating_add(1) }
    }

    /// Rebuilds what is not stored; to be called after a state was read from a checkpoint.
    #[must_use]
    pub fn indexed(mut self) -> State {
        self.names =
            self.relations.values().map(|it| ((it.schema, it.name.clone()), it.oid)).collect();
        self
    }

    pub fn role(&self, name: &str) -> Option<&Arc<Role>> {
        self.roles.values().find(|role| role.name == name)
    }

    pub fn schema(&self, name: &str) -> Option<&Arc<Schema>> {
        self.schemas.values().find(|schema| schema.name == name)
    }

    /// The dataset or view `name` in the schema `schema`.
    pub fn relation(&self, schema: Oid, name: &str) -> Option<&Arc<Relation>> {
        let oid = self.names.get(&(schema, name.to_owned()))?;
        self.relations.get(oid)
    }

    /// The relations of one schema, by name.
    pub fn relations_of(&self, schema: Oid) -> impl Iterator<Item = &Arc<Relation>> {
        self.names
            .range((schema, String::new())..)
            .take_while(move |((of, _), _)| *of == schema)
            .filter_map(|(_, oid)| self.relations.get(oid))
    }

    /// The id for the `nth` object that a set of changes makes, counted from 0.
    pub fn new_oid(&self, nth: u32) -> Oid {
        self.next_oid.max(FIRST_USER_OID) + nth
    }

    fn apply_one(&mut self, change: Change) {
        match change {
            Change::PutRole(role) => {
                self.claim(role.oid);
                self.roles.insert(role.oid, Arc::new(role));
            }
            Change::RemoveRole(oid) => {
                self.roles.remove(&oid);
                self.access.forget(oid);
            }
            Change::PutSchema(schema) => {
                self.claim(schema.oid);
                self.schemas.insert(schema.oid, Arc::new(schema));
            }
            Change::RemoveSchema(oid) => {
                self.schemas.remove(&oid);
            }
            Change::PutRelation(relation) => {
                let relation = self.with_dropped(relation);
                self.claim(relation.oid);
                let policies = relation.table().map(|table| table.policies.as_slice());
                policies.unwrap_or_default().iter().for_each(|policy| self.claim(policy.oid));
                self.forget_name(relation.oid);
                self.names.insert((relation.schema, relation.name.clone()), relation.oid);
                self.relations.insert(relation.oid, Arc::new(*relation));
            }
            Change::RemoveRelation(oid) => {
                self.forget_name(oid);
                self.relations.remove(&oid);
                self.access.forget(oid);
            }
            Change::Announce(reshaping) => {
                self.announced.insert(reshaping.statement.clone(), Arc::new(*reshaping));
            }
            Change::Withdraw(statement) => {
                self.announced.remove(&statement);
            }
            Change::PutTag(tag) => {
                self.tags.insert(tag.name.clone(), Arc::new(tag));
            }
            Change::RemoveTag(name) => {
                self.tags.remove(&name);
            }
            Change::Access(change) => {
                if let Some(oid) = change.put() {
                    self.claim(oid);
                }
                self.access.apply(change);
            }
            Change::PutLedgerKey(key) => self.ledger.keys.push(key),
            Change::RotateLedgerKey(rotation) => {
                self.ledger.keys.push(rotation.after.clone());
                self.ledger.rotations.push(*rotation);
            }
            Change::PutAnchor(anchor) => {
                self.ledger.anchors.insert(anchor.server.clone(), Arc::new(*anchor));
            }
        }
    }

    /// `relation`, which is to be put, with what it knows of dropped columns: a mask follows its
    /// column's id, also to where a version of before the drop is read or restored.
    fn with_dropped(&self, mut relation: Box<Relation>) -> Box<Relation> {
        let Some(before) = self.relations.get(&relation.oid) else { return relation };
        let RelationKind::Table(table) = &mut relation.kind else { return relation };
        let is_there = |columns: &[Column], id: u32| columns.iter().any(|it| it.id == id);
        for column in &mut relation.columns {
            let known = table.dropped.iter().find(|it| it.id == column.id);
            if let Some(known) = known.filter(|_| !is_there(&before.columns, column.id)) {
                column.mask.clone_from(&known.mask);
                column.inherited.clone_from(&known.inherited);
                column.tags.clone_from(&known.tags);
            }
        }
        table.dropped.retain(|it| !is_there(&relation.columns, it.id));
        let covered =
            |it: &&Column| it.mask.is_some() || !it.inherited.is_empty() || !it.tags.is_empty();
        let gone = before.columns.iter().filter(|it| !is_there(&relation.columns, it.id));
        table.dropped.extend(gone.filter(covered).cloned());
        relation
    }

    fn claim(&mut self, oid: Oid) {
        self.next_oid = self.next_oid.max(oid.saturating_add(1)).max(FIRST_USER_OID);
    }

    fn forget_name(&mut self, oid: Oid) {
        if let Some(old) = self.relations.get(&oid) {
            self.names.remove(&(old.schema, old.name.clone()));
        }
    }
}

impl Column {
    /// A column that may be NULL, and about which nothing else is said.
    pub fn new(id: u32, name: &str, data_type: Type) -> Column {
        Column {
            id,
            name: name.to_owned(),
            data_type,
            not_null: false,
            default: None,
            comment: None,
            mask: None,
            inherited: Vec::new(),
            tags: BTreeSet::new(),
        }
    }
}

impl Relation {
    pub fn table(&self) -> Option<&Table> {
        match &self.kind {
            RelationKind::Table(table) => Some(table),
            RelationKind::View(_) => None,
        }
    }

    pub fn view(&self) -> Option<&View> {
        match &self.kind {
            RelationKind::View(view) => Some(view),
            RelationKind::Table(_) => None,
        }
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The keys of a table, which are enforced; a view has none.
    pub fn keys(&self) -> &[Key] {
        self.table().map(|table| table.keys.as_slice()).unwrap_or_default()
    }

    /// What was made by `CREATE INDEX`; a view has none.
    pub fn indexes(&self) -> &[Key] {
        self.table().map(|table| table.indexes.as_slice()).unwrap_or_default()
    }

    /// What the table's files are made to be searched by: its keys, and then its indexes.
    pub fn searched(&self) -> Vec<Key> {
        self.keys().iter().chain(self.indexes()).cloned().collect()
    }

    /// Lets the indexes go that have lost a column.
    pub fn drop_lost_indexes(&mut self) {
        if let RelationKind::Table(table) = &mut self.kind {
            let is_there = |id: &u32| self.columns.iter().any(|column| column.id == *id);
            table.indexes.retain(|index| index.columns.iter().all(is_there));
        }
    }

    /// Lets the rights on columns go that are no longer there: ids are never used again, so the
    /// right on a dropped column is a right on nothing.
    pub fn drop_lost_grants(&mut self) {
        let columns = &self.columns;
        let is_there = |id: u32| columns.iter().any(|column| column.id == id);
        self.grants.retain(|grant| grant.column.is_none_or(is_there));
    }

    pub fn column_by_id(&self, id: u32) -> Option<&Column> {
        self.columns.iter().find(|column| column.id == id)
    }

    /// The columns of a key, in the key's order.
    pub fn key_columns<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Column> {
        (key.columns.iter()).filter_map(|id| self.columns.iter().find(|column| column.id == *id))
    }
}

#[cfg(test)]
mod tests;
