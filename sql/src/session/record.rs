//! The ledger's record of a statement, from its opening to its end.
//!
//! What it is: [`Facts`] gather, while a statement is bound, authorized and planned, what its record
//! will say: which datasets and versions, by what right, behind which policies and masks. Whoever
//! knows one says it to `scope.facts`: what decides rights calls [`Facts::decided_by`], the barrier
//! [`Facts::policy`] and [`Facts::mask`], what resolves columns [`Facts::columns`].
//! What it guarantees: a statement that fails says what was found out up to there.

use std::sync::{Arc, Mutex};

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use datafusion::scalar::ScalarValue;
use futures::{Stream, StreamExt};
use kho_catalog::audit::{Completion, Keys, Opened, Record, RecordKind, Touched};
use kho_catalog::error::{Error, Result};
use kho_catalog::privilege::Principal;
use kho_catalog::state::{Oid, Privilege, Relation};

use super::Login;
use crate::bind::Read;
use crate::outcome::Tag;
use crate::scope::{Scope, lock};
use crate::settings::Settings;

/// What is known of a statement besides its text. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    touched: Vec<Touched>,
    policies: Vec<String>,
    masks: Vec<String>,
    decided_by: Vec<String>,
}

/// More of one kind than this are not listed: a record is to stay a line.
const LISTED_MAX: usize = 1000;

impl Facts {
    /// A dataset was read at a version, or with `None` looked up by its name.
    pub(crate) fn dataset(&self, dataset: String, relation: Oid, version: Option<u64>) {
        let mut known = lock(&self.0);
        let same = |it: &&mut Touched| {
            it.relation == relation && (it.version == version || it.version.is_none())
        };
        if let Some(known) = known.touched.iter_mut().find(same) {
            known.version = version;
        } else if known.touched.len() < LISTED_MAX {
            known.touched.push(Touched { dataset, relation, version, columns: Vec::new() });
        }
    }

    /// Columns of a dataset, which was told before, are read.
    #[expect(dead_code, reason = "what checks column privileges knows them, and will say them")]
    pub(crate) fn columns(&self, relation: Oid, columns: impl IntoIterator<Item = String>) {
        let mut known = lock(&self.0);
        let touched = known.touched.iter_mut().filter(|it| it.relation == relation);
        if let Some(touched) = touched.last() {
            for column in columns {
                add(&mut touched.columns, column);
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

    /// The end of the record.
    fn completion(&self, outcome: &str, tag: &str, rows: u64, bytes_out: u64) -> Completion {
        let known = lock(&self.0);
        Completion {
            outcome: outcome.to_owned(),
            tag: tag.to_owned(),
            rows,
            bytes_out,
            datasets: known.touched.clone(),
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

pub(super) fn of_session(kind: RecordKind, login: &Login, session: &str) -> Record {
    Record {
        kind,
        role: login.role.clone(),
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

/// Notes the datasets and versions that a plan reads, and by what right.
pub(super) fn note_reads(scope: &Scope, reads: &[Read]) {
    for read in reads {
        let Some(relation) = scope.state.relations.get(&read.relation) else { continue };
        let name = qualified(scope, relation);
        if let Some(right) = right(scope, relation, read.by, &name) {
            scope.facts.decided_by(right);
        }
        if relation.table().is_some() {
            scope.facts.dataset(name, relation.oid, read.version);
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

/// Counts the rows as they go out and closes the record at their end. Rows that are dropped
/// unread close it as abandoned.
pub(super) fn counted(
    rows: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
    opened: Opened,
    command: &'static str,
    facts: Facts,
) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    let state = (Box::pin(rows), Some(opened), 0_u64, 0_u64, facts);
    futures::stream::unfold(state, move |state| async move {
        let (mut rows, mut opened, mut count, mut bytes, facts) = state;
        match rows.next().await {
            Some(Ok(batch)) => {
                count += batch.num_rows() as u64;
                bytes += value_bytes(&batch);
                Some((Ok(batch), (rows, opened, count, bytes, facts)))
            }
            Some(Err(error)) => {
                if let Some(opened) = opened.take() {
                    opened.complete(facts.completion(error.sqlstate(), "", count, bytes));
                }
                Some((Err(error), (rows, None, count, bytes, facts)))
            }
            None => {
                if let Some(opened) = opened.take() {
                    opened.complete(facts.completion("00000", command, count, bytes));
                }
                None
            }
        }
    })
}

/// The size of the values of a batch, of what it shares with others only its own part.
fn value_bytes(batch: &RecordBatch) -> u64 {
    let bytes = |column: &arrow::array::ArrayRef| {
        let data = column.to_data();
        data.get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    batch.columns().iter().map(|column| bytes(column) as u64).sum()
}
