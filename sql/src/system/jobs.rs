//! `kho.jobs`: long work of this server, running and ended.
//!
//! What it guarantees: an owner sees the work on their datasets; `kho_admin` and `kho_operator` see
//! all.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use kho_catalog::error::Result;

use super::{times, utc};
use crate::activity::is_keeper;
use crate::errors::{from_arrow, from_engine};
use crate::jobs::Job;
use crate::scope::Scope;

pub(super) fn jobs(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let all = is_keeper(&scope.state, &scope.who);
    let relation = |job: &Job| job.dataset.and_then(|oid| scope.state.relations.get(&oid));
    let mut jobs = scope.shared.jobs.all();
    jobs.retain(|job| all || relation(job).is_some_and(|it| scope.who.owns(it)));
    let text = |of: &dyn Fn(&Job) -> Option<String>| -> ArrayRef {
        Arc::new(jobs.iter().map(of).collect::<StringArray>())
    };
    let number = |of: fn(&Job) -> u64| -> ArrayRef {
        Arc::new(jobs.iter().map(|job| i64::try_from(of(job)).ok()).collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        text(&|job| Some(job.id.clone())),
        text(&|job| Some(job.kind.to_owned())),
        text(&|job| {
            let relation = relation(job)?;
            let schema = scope.state.schemas.get(&relation.schema)?;
            Some(format!("{}.{}", schema.name, relation.name))
        }),
        text(&|_| Some(scope.shared.catalog.server().to_owned())),
        text(&|job| Some(job.ended.as_ref().map_or("running", |ended| ended.state).to_owned())),
        number(|job| job.progress.get().0),
        number(|job| job.progress.get().1),
        times(jobs.iter().map(|job| Some(job.started_ms))),
        times(jobs.iter().map(|job| job.ended.as_ref().map(|ended| ended.at_ms))),
        text(&|job| job.ended.as_ref()?.error.clone()),
    ];
    let batch = RecordBatch::try_new(schema(), columns).map_err(|error| from_arrow(&error))?;
    let table = MemTable::try_new(schema(), vec![vec![batch]]).map_err(from_engine)?;
    Ok(Arc::new(table))
}

fn schema() -> Arc<Schema> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![
        text("id"),
        text("kind"),
        text("dataset"),
        text("server"),
        text("state"),
        number("done"),
        number("total"),
        utc("started_at"),
        utc("finished_at"),
        text("error"),
    ]))
}
