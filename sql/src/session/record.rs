//! The ledger's record of a statement, from its opening to its end.
//!
//! What it is: [`Facts`] gather, while a statement is bound, authorized and planned, what its record
//! will say: which datasets and versions, which columns of them, by what right, behind which policies
//! and masks. Whoever knows one says it to `scope.facts`: what looks up a name and what decides rights
//! call [`Facts::dataset`], what decides rights [`Facts::columns`] and [`Facts::decided_by`], the
//! barrier [`Facts::policy`] and [`Facts::mask`].
//! What it guarantees: a statement that fails says what was found out up to there.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use arrow::record_batch::RecordBatch;
use datafusion::scalar::ScalarValue;
use futures::{Stream, StreamExt};
use kho_catalog::audit::{Completion, Keys, Opened, Record, RecordKind, Released, Touched};
use kho_catalog::error::{Error, Result};
use kho_catalog::privilege::Principal;
use kho_catalog::state::{Oid, Privilege, Relation};

use super::Login;
use crate::bind::Read;
use crate::limit::bytes::value_bytes;
use crate::limit::meter::metered;
use crate::outcome::{Rows, Tag};
use crate::scope::{Scope, lock};
use crate::settings::Settings;

/// What is known of a statement besides its text. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    touched: Vec<Touched>,
    columns: BTreeMap<Oid, Columns>,
    policies: Vec<String>,
    masks: Vec<String>,
    decided_by: Vec<String>,
    released: Option<Released>,
}

/// Columns in the order in which they were told, each once.
#[derive(Debug, Default)]
struct Columns {
    listed: Vec<String>,
    known: HashSet<String>,
}

/// What a statement was found to be about when it was bound.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    touched: Vec<Touched>,
    policies: Vec<String>,
    masks: Vec<String>,
}

/// More of one kind than this are not listed: a record is to stay a line.
const LISTED_MAX: usize = 1000;

impl Facts {
    /// A dataset was read at a version, or with `None` looked up by its name.
    pub(crate) fn dataset(&self, dataset: String, relation: Oid, version: Option<u64>) {
        let mut known = lock(&self.0);
        let same = |it: &&mut Touched| {
            let is_told = version.is_none() || it.version == version || it.version.is_none();
            it.relation == relation && is_told
        };
        if let Some(known) = known.touched.iter_mut().find(same) {
            known.version = known.version.or(version);
        } else if known.touched.len() < LISTED_MAX {
            known.touched.push(Touched { dataset, relation, version, columns: Vec::new() });
        }
    }

    /// Columns of a dataset are read, or were to be.
    pub(crate) fn columns<'a>(&self, relation: Oid, columns: impl IntoIterator<Item = &'a String>) {
        let mut known = lock(&self.0);
        let told = known.columns.entry(relation).or_default();
        for column in columns {
            if told.listed.len() < LISTED_MAX && !told.known.contains(column) {
                told.known.insert(column.clone());
                told.listed.push(column.clone());
            }
        }
    }

    /// A row policy decides which rows are seen: `name on schema.table`.
    pub(crate) fn policy(&self, policy: impl Into<String>) {
        add(&mut lock(&self.0).policies, policy.into());
    }

    /// A mask decides which values are seen: `column of schema.table`.
    pub(crate) fn mask(&self, mask: impl Into<String>) {
        add(&mut lock(&self.0).masks, mask.into());
    }

    /// By what right it is done: `owner of schema.table`, `SELECT on schema.table`.
    pub(crate) fn decided_by(&self, right: impl Into<String>) {
        add(&mut lock(&self.0).decided_by, right.into());
    }

    /// Whether nothing is known yet.
    pub(crate) fn is_blank(&self) -> bool {
        let known = lock(&self.0);
        known.touched.is_empty() && known.policies.is_empty() && known.masks.is_empty()
    }

    /// What is known by now of what a statement's names stand for.
    pub(crate) fn found(&self) -> Found {
        let known = lock(&self.0);
        let (touched, policies) = (known.touched.clone(), known.policies.clone());
        Found { touched, policies, masks: known.masks.clone() }
    }

    /// All of that at once.
    pub(crate) fn find(&self, found: &Found) {
        for it in &found.touched {
            self.dataset(it.dataset.clone(), it.relation, it.version);
        }
        let mut known = lock(&self.0);
        found.policies.iter().for_each(|it| add(&mut known.policies, it.clone()));
        found.masks.iter().for_each(|it| add(&mut known.masks, it.clone()));
    }

    /// Rows of datasets are given; says how many that are altogether.
    pub(crate) fn released(&self, more: &Released) -> Released {
        let mut known = lock(&self.0);
        let all = known
            .released
            .get_or_insert_with(|| Released { role: more.role, ..Released::default() });
        all.rows = all.rows.saturating_add(more.rows);
        all.bytes = all.bytes.saturating_add(more.bytes);
        all.kept_rows = all.kept_rows.saturating_add(more.kept_rows);
        all.kept_bytes = all.kept_bytes.saturating_add(more.kept_bytes);
        for agreement in &more.agreements {
            if !all.agreements.contains(agreement) {
                all.agreements.push(*agreement);
            }
        }
        all.clone()
    }

    /// The same, of rows that are not given after all.
    pub(crate) fn not_released(&self, less: &Released) {
        if let Some(all) = &mut lock(&self.0).released {
            all.rows = all.rows.saturating_sub(less.rows);
            all.bytes = all.bytes.saturating_sub(less.bytes);
        }
    }

    /// The end of the record.
    fn completion(&self, outcome: &str, tag: &str, rows: u64, bytes_out: u64) -> Completion {
        let known = lock(&self.0);
        let columns = |it: &Touched| {
            known.columns.get(&it.relation).map(|it| it.listed.clone()).unwrap_or_default()
        };
        let touched = |it: &Touched| Touched { columns: columns(it), ..it.clone() };
        Completion {
            outcome: outcome.to_owned(),
            tag: tag.to_owned(),
            rows,
            bytes_out,
            released: known.released.clone(),
            datasets: known.touched.iter().map(touched).collect(),
            policies: known.policies.clone(),
            masks: known.masks.clone(),
            decided_by: known.decided_by.clone(),
        }
    }
}

fn add(to: &mut Vec<String>, what: String) {
    if to.len() < LISTED_MAX && !to.contains(&what) {
        to.push(what);
    }
}

pub(super) fn of_session(kind: RecordKind, login: &Login, role: Oid, session: &str) -> Record {
    Record {
        kind,
        role: login.role.clone(),
        role_id: Some(role),
        protocol: login.protocol.to_owned(),
        session: session.to_owned(),
        purpose: None,
        order_number: None,
        client: login.client.map(|client| client.to_string()).unwrap_or_default(),
        authentication: Some(login.credential.how.to_string()),
        statement: None,
        parameters: Vec::new(),
    }
}

/// What a session states of why it acts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stated {
    pub purpose: Option<String>,
    pub order_number: Option<String>,
}

impl Stated {
    pub(super) fn by(settings: &Settings) -> Stated {
        let text = |name| settings.get(name).ok().filter(|it| !it.is_empty()).map(str::to_owned);
        Stated { purpose: text("kho.purpose"), order_number: text("kho.order_number") }
    }
}

/// What the record says of the values of parameters: the same as of literals.
pub(super) fn hashed(keys: &Keys, parameters: &[ScalarValue]) -> Vec<String> {
    let hash = |value: &ScalarValue| match value {
        value if value.is_null() => "null".to_owned(),
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => keys.hash(text),
        other => keys.hash(&other.to_string()),
    };
    parameters.iter().map(hash).collect()
}

/// Closes a record with success.
pub(super) fn succeed(opened: Opened, tag: &Tag, facts: &Facts) {
    let rows = tag.rows.unwrap_or_default();
    opened.complete(facts.completion("00000", &tag.command, rows, 0));
}

/// Closes a record with the error's SQLSTATE.
pub(super) fn failed(opened: Opened, error: &Error, facts: &Facts) {
    opened.complete(facts.completion(error.sqlstate(), "", 0, 0));
}

/// Notes the datasets and versions that a plan reads, or would if it may.
pub(crate) fn note_datasets(scope: &Scope, reads: &[Read]) {
    for read in reads {
        let Some(relation) = scope.state.relations.get(&read.relation) else { continue };
        if relation.table().is_some() {
            scope.facts.dataset(qualified(scope, relation), relation.oid, read.version);
        }
    }
}

/// Notes by what right a plan reads.
pub(crate) fn note_rights(scope: &Scope, reads: &[Read]) {
    for read in reads {
        let Some(relation) = scope.state.relations.get(&read.relation) else { continue };
        if let Some(right) = right(scope, relation, read.by, &qualified(scope, relation)) {
            scope.facts.decided_by(right);
        }
    }
}

pub(crate) fn qualified(scope: &Scope, relation: &Relation) -> String {
    let schema = scope.state.schemas.get(&relation.schema);
    format!("{}.{}", schema.map_or("?", |schema| schema.name.as_str()), relation.name)
}

fn right(scope: &Scope, relation: &Relation, by: Oid, name: &str) -> Option<String> {
    let who = Principal::of(&scope.state, by);
    if who.is(relation.owner) {
        return Some(format!("owner of {name}"));
    }
    let grant = relation
        .grants
        .iter()
        .find(|grant| grant.privilege == Privilege::Select && who.is(grant.grantee))?;
    let grantee = scope.state.roles.get(&grant.grantee);
    Some(format!("SELECT on {name} to {}", grantee.map_or("PUBLIC", |role| role.name.as_str())))
}

/// A record that is open until all rows are out.
struct Counting {
    opened: Option<Opened>,
    facts: Facts,
    rows: u64,
    bytes: u64,
}

impl Counting {
    fn close(&mut self, outcome: &str, command: &str) {
        if let Some(opened) = self.opened.take() {
            opened.complete(self.facts.completion(outcome, command, self.rows, self.bytes));
        }
    }
}

/// Its rows were dropped unread; those before them are out all the same.
impl Drop for Counting {
    fn drop(&mut self) {
        self.close(ABANDONED, "");
    }
}

/// The outcome of an act that nobody waited for the end of.
const ABANDONED: &str = "abandoned";

/// Counts the rows as they go out and closes the record at their end.
fn counted(
    rows: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
    command: &'static str,
    opened: Opened,
    facts: Facts,
) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    let counting = Counting { opened: Some(opened), facts, rows: 0, bytes: 0 };
    futures::stream::unfold(
        (Box::pin(rows), counting),
        move |(mut rows, mut counting)| async move {
            let next = rows.next().await;
            match &next {
                Some(Ok(batch)) => {
                    counting.rows += batch.num_rows() as u64;
                    counting.bytes += value_bytes(batch);
                }
                Some(Err(error)) => counting.close(error.sqlstate(), ""),
                None => counting.close("00000", command),
            }
            next.map(|it| (it, (rows, counting)))
        },
    )
}

/// The rows of a statement as its client gets them: no more than may be given, and counted.
pub(super) fn given(rows: Rows, opened: Opened, facts: Facts) -> Rows {
    let (schema, command, standing) = (rows.schema.clone(), rows.command, rows.standing());
    let demand = rows.demand.clone();
    let meter = standing.as_ref().and_then(|it| it.meter(&facts, opened.id()));
    let rows = metered(demand.portions(rows), meter);
    let rows = counted(rows, command, opened, facts);
    Rows::new(schema, command, rows).standing_on(standing).asked_by(demand)
}
