//! `kho.datasets`: every dataset that exists for the principal, and how it is governed.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use kho_catalog::error::Result;
use kho_catalog::privilege;
use kho_catalog::state::{Relation, Table};

use crate::errors::{from_arrow, from_engine};
use crate::scope::{Scope, location};

/// The role that keeps the storage, and so may know where a dataset lies.
const OPERATOR: &str = "kho_operator";

pub(super) fn datasets(scope: &Scope) -> Result<Arc<dyn TableProvider>> {
    let rows: Vec<(&Arc<Relation>, &Table)> =
        privilege::visible_relations(&scope.state, &scope.who)
            .filter_map(|relation| Some((relation, relation.table()?)))
            .collect();
    let text = |of: &dyn Fn(&Relation, &Table) -> Option<String>| -> Arc<StringArray> {
        Arc::new(rows.iter().map(|(relation, table)| of(relation, table)).collect())
    };
    let schema_name = |relation: &Relation| {
        scope.state.schemas.get(&relation.schema).map(|schema| schema.name.clone())
    };
    let role_name = |oid| scope.state.roles.get(&oid).map(|role| role.name.clone());
    let operator = scope.state.role(OPERATOR).is_some_and(|role| scope.who.serves(role.oid));
    let created = rows.iter().map(|(_, table)| table.created_ms.saturating_mul(1000));
    let created = TimestampMicrosecondArray::from_iter_values(created).with_timezone("UTC");
    let agreement: BooleanArray =
        rows.iter().map(|(_, table)| Some(table.governance.requires_agreement)).collect();
    let columns: Vec<arrow::array::ArrayRef> = vec![
        text(&|relation, _| Some(format!("{}.{}", schema_name(relation)?, relation.name))),
        text(&|relation, _| schema_name(relation)),
        text(&|relation, _| Some(relation.name.clone())),
        text(&|relation, _| role_name(relation.owner)),
        text(&|_, table| Some(table.governance.classification.name().to_owned())),
        text(&|_, table| table.governance.update_frequency.clone()),
        text(&|_, table| table.governance.retention.clone()),
        text(&|relation, table| {
            let id = table.governance.retention_column?;
            relation.columns.iter().find(|column| column.id == id).map(|it| it.name.clone())
        }),
        text(&|_, table| {
            let purposes = &table.governance.allowed_purposes;
            let list = purposes.iter().cloned().collect::<Vec<_>>().join(",");
            (!purposes.is_empty()).then_some(list)
        }),
        Arc::new(agreement),
        text(&|relation, _| Some(relation.comment.as_ref()?.value()?.to_owned())),
        Arc::new(created),
        text(&|relation, _| {
            let shown = operator || scope.who.is(relation.owner);
            shown.then(|| location(relation).ok().map(|it| it.to_string())).flatten()
        }),
    ];
    let batch = RecordBatch::try_new(schema(), columns).map_err(|error| from_arrow(&error))?;
    let table = MemTable::try_new(schema(), vec![vec![batch]]).map_err(from_engine)?;
    Ok(Arc::new(table))
}

fn schema() -> Arc<Schema> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
    Arc::new(Schema::new(vec![
        text("dataset"),
        text("schema"),
        text("name"),
        text("owner"),
        text("classification"),
        text("update_frequency"),
        text("retention"),
        text("retention_column"),
        text("allowed_purposes"),
        Field::new("requires_agreement", DataType::Boolean, true),
        text("comment"),
        Field::new("created_at", utc, true),
        text("location"),
    ]))
}
