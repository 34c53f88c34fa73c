//! `kho.audit_log` and `kho.deletion_log`: the ledger up to the present moment.
//!
//! What it guarantees: `kho_auditor` sees all; everybody sees what was done in their own name, and
//! the owner of a dataset what was done to it. A role that was renamed is the same. Rows are streamed: memory is bounded whatever the
//! ledger's size.
//! What it does not: rows are in no order; acts come when they ended. Of other servers on other
//! disks there is what they have sealed.
//! On failure: `XX001` for a record that is broken, behind those before it.

use std::sync::Arc;

use arrow::array::builder::{Int64Builder, ListBuilder, StringBuilder};
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use kho_catalog::audit::{Act, Completion, End, Removed};
use kho_catalog::error::Result;
use kho_catalog::state::Oid;
use kho_catalog::table::Location;

use super::{times, utc};
use crate::errors::{from_arrow, from_engine, to_engine};
use crate::scope::Scope;

const BATCH_ROWS: usize = 1024;
const AUDITOR: &str = "kho_auditor";
/// Commits behind the version before that are asked whether they are the removal.
const LOOKED_AT: u64 = 64;

/// `kho.audit_log`: one row for each act.
pub(super) fn audit_log(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    table(Log::Acts, acts_schema(), scope)
}

/// `kho.deletion_log`: one row for each removal of rows from a dataset.
pub(super) fn deletion_log(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    table(Log::Removals, removals_schema(), scope)
}

/// Whether a role reads the whole ledger.
pub(crate) fn is_auditor(scope: &Scope) -> bool {
    scope.state.role(AUDITOR).is_some_and(|role| scope.who.serves(role.oid))
}

#[derive(Clone, Copy, Debug)]
enum Log {
    Acts,
    Removals,
}

fn table(log: Log, schema: SchemaRef, scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let part = Part { log, schema: schema.clone(), scope: scope.clone() };
    Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(part)]).map_err(from_engine)?))
}

/// All servers, one after another.
struct Part {
    log: Log,
    schema: SchemaRef,
    scope: Scope,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("log", &self.log).finish_non_exhaustive()
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = match self.log {
            Log::Acts => acts(self.scope.clone()).boxed(),
            Log::Removals => removals(self.scope.clone()).boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches.map_err(to_engine)))
    }
}

/// The servers in the ledger, one after another.
fn servers(scope: &Scope) -> impl Stream<Item = Result<String>> + Send + use<> {
    let source = scope.shared.ledger.source().clone();
    stream::once(async move { source.servers().await })
        .map_ok(|servers| stream::iter(servers.into_iter().map(Ok)))
        .try_flatten()
}

fn acts(scope: Scope) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let source = scope.shared.ledger.source().clone();
    let all = is_auditor(&scope);
    servers(&scope)
        .map_ok(move |server| source.acts(&server))
        .try_flatten()
        .try_filter_map(move |act| {
            let seen = all || {
                let by = (act.record.role.as_str(), act.record.role_id);
                concerns(&scope, by, touched(&act).map(|it| it.1))
            };
            futures::future::ready(Ok(seen.then_some(act)))
        })
        .try_chunks(BATCH_ROWS)
        .map(|acts| match acts {
            Ok(acts) => acts_batch(&acts),
            Err(error) => Err(error.1),
        })
}

fn removals(scope: Scope) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let source = scope.shared.ledger.source().clone();
    let all = is_auditor(&scope);
    let shared = Arc::clone(&scope.shared);
    servers(&scope)
        .map_ok(move |server| source.removals(&server))
        .try_flatten()
        .try_filter_map(move |it| {
            let relation = [it.removal.relation].into_iter();
            let seen =
                all || { concerns(&scope, (&it.removal.role, it.removal.role_id), relation) };
            futures::future::ready(Ok(seen.then_some(it)))
        })
        .and_then(move |it| looked_up(Arc::clone(&shared), it))
        .try_filter_map(|it| futures::future::ready(Ok(it)))
        .try_chunks(BATCH_ROWS)
        .map(|removals| match removals {
            Ok(removals) => removals_batch(&removals),
            Err(error) => Err(error.1),
        })
}

/// Whether it was done in a role's own name, or to a dataset of its own.
fn concerns(
    scope: &Scope,
    (role, id): (&str, Option<Oid>),
    relations: impl Iterator<Item = Oid>,
) -> bool {
    let who = &scope.who;
    let (mut any, mut own, mut known) = (false, false, true);
    for oid in relations {
        let relation = scope.state.relations.get(&oid).map(|it| it.as_ref());
        any = true;
        own |= relation.is_some_and(|it| who.owns(it));
        known &= who.may_know(relation);
    }
    // A text in which a bound session could read of others' datasets is shown only if it was about
    // those it may know.
    if !known || !(any || who.may_know_all()) {
        return false;
    }
    // Of a refused login, and of old records, there is the name alone.
    let by = id.or_else(|| scope.state.role(role).map(|role| role.oid));
    by.is_some_and(|by| who.is(by)) || own
}

fn completion(act: &Act) -> Option<&Completion> {
    match &act.end {
        End::Completed { completion, .. } => Some(completion),
        End::Abandoned { .. } | End::Unknown | End::Running => None,
    }
}

fn touched(act: &Act) -> impl Iterator<Item = (&str, Oid)> {
    let touched = completion(act).map(|it| it.datasets.as_slice()).unwrap_or_default();
    touched.iter().map(|it| (it.dataset.as_str(), it.relation))
}

/// Where a kill came between the removal and the word that it was done, the table's log tells;
/// `None` where it was not done.
async fn looked_up(shared: Arc<crate::engine::Shared>, mut it: Removed) -> Result<Option<Removed>> {
    if it.end.is_some() {
        return Ok(Some(it));
    }
    let place = it.removal.location.strip_prefix("tables/").and_then(|it| it.split_once('/'));
    let Some((dataset, generation)) = place else { return Ok(Some(it)) };
    let Ok(generation) = generation.parse() else { return Ok(Some(it)) };
    let location = Location { dataset: dataset.to_owned(), generation };
    if it.removal.operation == "DROP TABLE" {
        let state = shared.catalog.fresh().await?;
        let is_there = state.relations.contains_key(&it.removal.relation);
        it.end = Some(None);
        return Ok((!is_there).then_some(it));
    }
    for version in (it.removal.version_before.saturating_add(1)..).take(LOOKED_AT as usize) {
        match shared.tables.commit_record(&location, version).await? {
            Some(record) if record.statement.as_ref() == Some(&it.removal.act) => {
                it.end = Some(Some(version));
                return Ok(Some(it));
            }
            Some(_) => {}
            // The log ends, and it was not there.
            None if version > it.removal.version_before.saturating_add(1) => return Ok(None),
            None => {
                let before = shared.tables.commit_record(&location, version - 1).await?;
                // Without the commit before, the log itself is gone, and nobody knows.
                return Ok(before.is_none().then_some(it));
            }
        }
    }
    Ok(Some(it))
}

/// The end of an act as the log shows it.
fn outcome(act: &Act) -> Option<String> {
    match &act.end {
        End::Completed { completion, .. } => Some(completion.outcome.clone()),
        End::Abandoned { .. } => Some("abandoned".to_owned()),
        End::Unknown => Some("unknown".to_owned()),
        End::Running => None,
    }
}

fn duration_ms(act: &Act) -> Option<i64> {
    match &act.end {
        End::Completed { time_ms, .. } | End::Abandoned { time_ms } => {
            Some(time_ms.saturating_sub(act.time_ms))
        }
        End::Unknown | End::Running => None,
    }
}

fn acts_batch(acts: &[Act]) -> Result<RecordBatch> {
    let text = |of: &dyn Fn(&Act) -> Option<String>| -> ArrayRef {
        Arc::new(acts.iter().map(of).collect::<StringArray>())
    };
    let plain = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let number = |of: &dyn Fn(&Act) -> Option<i64>| -> ArrayRef {
        Arc::new(acts.iter().map(of).collect::<Int64Array>())
    };
    let whole = |number: u64| i64::try_from(number).ok();
    let lists = |of: &dyn Fn(&Act) -> Vec<String>| -> ArrayRef {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for act in acts {
            of(act).into_iter().for_each(|it| lists.values().append_value(it));
            lists.append(true);
        }
        Arc::new(lists.finish())
    };
    let mut versions = ListBuilder::new(Int64Builder::new());
    for act in acts {
        let touched = completion(act).map(|it| it.datasets.as_slice()).unwrap_or_default();
        let all = touched.iter().map(|it| it.version.and_then(whole));
        all.for_each(|version| versions.values().append_option(version));
        versions.append(true);
    }
    let of_completion = |of: fn(&Completion) -> &Vec<String>| {
        lists(&move |act| completion(act).map(of).cloned().unwrap_or_default())
    };
    let columns = |act: &Act| {
        let touched = completion(act).map(|it| it.datasets.as_slice()).unwrap_or_default();
        let of = touched
            .iter()
            .flat_map(|it| it.columns.iter().map(move |column| format!("{}.{column}", it.dataset)));
        of.collect()
    };
    let columns: Vec<ArrayRef> = vec![
        times(acts.iter().map(|act| Some(act.time_ms))),
        text(&|act| Some(act.id.clone())),
        text(&|act| Some(act.server.clone())),
        text(&|act| plain(&act.record.role)),
        text(&|act| plain(&act.record.client)),
        text(&|act| plain(&act.record.protocol)),
        text(&|act| act.record.authentication.clone()),
        text(&|act| plain(&act.record.session)),
        text(&|act| Some(act.record.kind.name().to_owned())),
        text(&|act| act.record.purpose.clone()),
        text(&|act| act.record.order_number.clone()),
        text(&|act| act.record.statement.clone()),
        lists(&|act| act.record.parameters.clone()),
        text(&|act| touched(act).next().map(|(name, _)| name.to_owned())),
        lists(&|act| touched(act).map(|(name, _)| name.to_owned()).collect()),
        Arc::new(versions.finish()),
        lists(&columns),
        of_completion(|it| &it.policies),
        of_completion(|it| &it.masks),
        of_completion(|it| &it.decided_by),
        text(&|act| plain(&completion(act)?.tag)),
        number(&|act| whole(completion(act)?.rows)),
        number(&|act| whole(completion(act)?.bytes_out)),
        text(&outcome),
        number(&duration_ms),
    ];
    RecordBatch::try_new(acts_schema(), columns).map_err(|error| from_arrow(&error))
}

fn acts_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let list = |name: &str, of: DataType| {
        Field::new(name, DataType::List(Arc::new(Field::new("item", of, true))), true)
    };
    let texts = |name: &str| list(name, DataType::Utf8);
    Arc::new(Schema::new(vec![
        utc("time"),
        text("id"),
        text("server"),
        text("role"),
        text("client"),
        text("protocol"),
        text("authentication"),
        text("session"),
        text("kind"),
        text("purpose"),
        text("order_number"),
        text("statement"),
        texts("parameters"),
        text("dataset"),
        texts("datasets"),
        list("versions", DataType::Int64),
        texts("columns"),
        texts("policies"),
        texts("masks"),
        texts("decided_by"),
        text("command"),
        number("rows"),
        number("bytes"),
        text("outcome"),
        number("duration_ms"),
    ]))
}

fn removals_batch(removals: &[Removed]) -> Result<RecordBatch> {
    let text = |of: &dyn Fn(&Removed) -> Option<String>| -> ArrayRef {
        Arc::new(removals.iter().map(of).collect::<StringArray>())
    };
    let number = |of: &dyn Fn(&Removed) -> Option<u64>| -> ArrayRef {
        let numbers = removals.iter().map(|it| of(it).and_then(|it| i64::try_from(it).ok()));
        Arc::new(numbers.collect::<Int64Array>())
    };
    let done: BooleanArray = removals.iter().map(|it| it.end.map(|_| true)).collect();
    let columns: Vec<ArrayRef> = vec![
        times(removals.iter().map(|it| Some(it.time_ms))),
        text(&|it| Some(it.removal.act.clone())),
        text(&|it| Some(it.server.clone())),
        text(&|it| Some(it.removal.role.clone())),
        text(&|it| it.removal.purpose.clone()),
        text(&|it| it.removal.order_number.clone()),
        text(&|it| Some(it.removal.operation.clone())),
        text(&|it| Some(it.removal.dataset.clone())),
        number(&|it| Some(it.removal.rows)),
        number(&|it| Some(it.removal.version_before)),
        number(&|it| it.end.flatten()),
        Arc::new(done),
    ];
    RecordBatch::try_new(removals_schema(), columns).map_err(|error| from_arrow(&error))
}

fn removals_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![
        utc("time"),
        text("id"),
        text("server"),
        text("role"),
        text("purpose"),
        text("order_number"),
        text("operation"),
        text("dataset"),
        number("rows"),
        number("version_before"),
        number("version_after"),
        Field::new("done", DataType::Boolean, true),
    ]))
}
