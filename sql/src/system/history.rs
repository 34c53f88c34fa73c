//! `kho.table_history`: who committed what to a table, and when.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use kho_catalog::error::Result;
use kho_catalog::state::Relation;
use kho_catalog::table::CommitRecord;

use crate::errors::{from_arrow, from_engine};
use crate::scope::{Scope, location};
use crate::secure;

pub(super) async fn history(scope: &Scope, relation: &Relation) -> Result<Arc<dyn TableProvider>> {
    let records = scope.shared.tables.history(&location(relation)?).await?;
    let text = |of: fn(&CommitRecord) -> Option<&str>| -> ArrayRef {
        Arc::new(records.iter().map(of).collect::<StringArray>())
    };
    let number = |of: fn(&CommitRecord) -> Option<i64>| -> ArrayRef {
        Arc::new(records.iter().map(of).collect::<Int64Array>())
    };
    // Who may not see every row is not told how many there were.
    let hides = secure::is_policied(scope, relation);
    let count = |of: fn(&CommitRecord) -> Option<i64>| number(if hides { |_| None } else { of });
    let times = records.iter().map(|record| record.time_ms.saturating_mul(1000));
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        number(|record| i64::try_from(record.version).ok()),
        Arc::new(times),
        text(|record| record.operation.as_deref()),
        text(|record| record.role.as_deref()),
        text(|record| record.statement.as_deref()),
        count(|record| record.rows_inserted),
        count(|record| record.rows_updated),
        count(|record| record.rows_deleted),
        count(|record| record.files_added),
        count(|record| record.files_removed),
        text(|record| record.engine.as_deref()),
    ];
    let batch = RecordBatch::try_new(schema(), columns).map_err(|error| from_arrow(&error))?;
    let table = MemTable::try_new(schema(), vec![vec![batch]]).map_err(from_engine)?;
    Ok(Arc::new(table))
}

fn schema() -> Arc<Schema> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
    Arc::new(Schema::new(vec![
        number("version"),
        Field::new("committed_at", utc, true),
        text("operation"),
        text("role"),
        text("statement"),
        number("rows_inserted"),
        number("rows_updated"),
        number("rows_deleted"),
        number("files_added"),
        number("files_removed"),
        text("engine"),
    ]))
}
