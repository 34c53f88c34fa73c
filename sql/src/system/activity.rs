//! `kho.activity`: the sessions of this server and what they run, without literals.
//!
//! What it guarantees: one sees the sessions of the roles one acts with; `kho_admin` and
//! `kho_operator` see all.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use kho_catalog::error::Result;

use super::{times, utc};
use crate::activity::SessionEntry;
use crate::errors::{from_arrow, from_engine};
use crate::scope::Scope;

pub(super) fn activity(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let sessions = scope.shared.activity.visible(&scope.state, &scope.who);
    let text = |of: &dyn Fn(&SessionEntry) -> Option<String>| -> ArrayRef {
        Arc::new(sessions.iter().map(of).collect::<StringArray>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(sessions.iter().map(|it| Some(it.id)).collect::<Int64Array>()),
        Arc::new(sessions.iter().map(|it| Some(it.process_id)).collect::<Int32Array>()),
        text(&|it| scope.state.roles.get(&it.role).map(|role| role.name.clone())),
        text(&|it| it.client.map(|client| client.to_string())),
        text(&|it| Some(it.protocol.to_owned())),
        text(&|it| it.application.clone()),
        text(&|it| Some(it.state().to_owned())),
        times(sessions.iter().map(|it| Some(it.connected_ms))),
        times(sessions.iter().map(SessionEntry::running_since_ms)),
        text(&|it| it.running_since_ms().and(it.statement.clone())),
    ];
    let batch = RecordBatch::try_new(schema(), columns).map_err(|error| from_arrow(&error))?;
    let table = MemTable::try_new(schema(), vec![vec![batch]]).map_err(from_engine)?;
    Ok(Arc::new(table))
}

fn schema() -> Arc<Schema> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("process_id", DataType::Int32, true),
        text("role"),
        text("client"),
        text("protocol"),
        text("application_name"),
        text("state"),
        utc("connected_at"),
        utc("started_at"),
        text("statement"),
    ]))
}
