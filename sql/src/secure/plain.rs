//! A table all of whose rows and values may be seen, as it lies in its files.
//!
//! What it guarantees: it gives no inner plan away, answers no statistics of its own, and refuses
//! to be written through. A predicate on a float column is not handed to the files: their
//! statistics pass `NaN` over, so a file that holds one would be skipped; nor is one on a decimal with
//! more digits than the floats have that other writers put in the log. Every predicate is
//! evaluated above the scan, whatever the files below made of it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as PlanResult;
use datafusion::common::tree_node::TreeNode as _;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableSource, TableType};
use datafusion::physical_plan::ExecutionPlan;
use kho_catalog::error::Result;
use kho_catalog::state::{Key, KeyKind, Oid, Relation};
use kho_catalog::table::{Searched, Snapshot, TableSize, is_exact_in_log};
use kho_catalog::types::COLUMN_ID_KEY;

use super::floats::unasked;
use super::number::NumberExec;

/// `relation` at the version of `snapshot`.
pub(super) async fn table(
    relation: &Relation,
    snapshot: &Snapshot,
) -> Result<Arc<dyn TableProvider>> {
    let inner = snapshot.provider().await?;
    let schema = declared(&inner.schema(), &snapshot.schema());
    Ok(Arc::new(PlainTable {
        relation: relation.oid,
        version: snapshot.version(),
        searched: searched(relation, &schema),
        schema,
        inner,
        snapshot: Some(snapshot.clone()),
    }))
}

/// Whose rows `source` gives, if it is one of these.
pub(super) fn relation_of(source: &Arc<dyn TableSource>) -> Option<Oid> {
    let provider = source_as_provider(source).ok()?;
    let table: &dyn Any = provider.as_ref();
    table.downcast_ref::<PlainTable>().map(|table| table.relation)
}

/// How large the table behind `source` is; `None` where it is none of these.
pub(super) fn size_of(source: &Arc<dyn TableSource>) -> Option<Arc<TableSize>> {
    let provider = source_as_provider(source).ok()?;
    let table: &dyn Any = provider.as_ref();
    table.downcast_ref::<PlainTable>()?.snapshot.as_ref().map(Snapshot::size)
}

/// Rows that are not a table's own: its changes, or those that a statement is to change.
pub(super) fn derived(
    relation: &Relation,
    version: u64,
    inner: Arc<dyn TableProvider>,
) -> Arc<dyn TableProvider> {
    let (relation, schema) = (relation.oid, inner.schema());
    let searched = Vec::new();
    Arc::new(PlainTable { relation, version, schema, inner, snapshot: None, searched })
}

#[derive(Debug)]
pub(super) struct PlainTable {
    relation: Oid,
    version: u64,
    schema: SchemaRef,
    inner: Arc<dyn TableProvider>,
    snapshot: Option<Snapshot>,
    searched: Vec<Searched>,
}

#[async_trait::async_trait]
impl TableProvider for PlainTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        let below = |filter: &&Expr| {
            // A filter without a column, such as NULL, is dropped below.
            if filter.column_refs().is_empty() || self.touches_inexact(filter) || is_long(filter) {
                return Ok(TableProviderFilterPushDown::Unsupported);
            }
            // To ask is to have the filter translated, so that is not done with every filter.
            let inner = self.inner.supports_filters_pushdown(&[*filter])?;
            Ok(match inner.first() {
                Some(TableProviderFilterPushDown::Unsupported) | None => {
                    TableProviderFilterPushDown::Unsupported
                }
                // The files are passed over or thinned out by it; it is decided above.
                Some(_) => TableProviderFilterPushDown::Inexact,
            })
        };
        filters.iter().map(below).collect()
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        tracing::trace!(relation = self.relation, version = self.version, "scan");
        if let Some(rows) = self.by_value(session, projection, filters).await? {
            return Ok(unasked(rows));
        }
        if let Some(snapshot) = self.snapshot.as_ref().filter(|_| !filters.is_empty()) {
            snapshot.keep_page_indexes(session).await;
        }
        let rows = self.inner.scan(session, projection, filters, limit).await?;
        Ok(match projection.is_some_and(Vec::is_empty) {
            true => Arc::new(NumberExec { input: rows }),
            false => unasked(rows),
        })
    }
}

impl PlainTable {
    /// Whether it is one version of a table, as it lies in its files.
    pub(super) fn is_of_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// The version, where it is that.
    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// How many files it is made of, where it is that.
    pub(super) fn files(&self) -> Option<usize> {
        self.snapshot.as_ref().map(Snapshot::file_count)
    }

    /// How many rows can have these values, by column how many; `None` where no key tells.
    pub(super) fn most_rows(&self, values: &HashMap<&str, usize>) -> Option<usize> {
        self.searched.iter().filter_map(|it| it.most_rows(values)).min()
    }

    /// Whose rows they are.
    pub(super) fn relation(&self) -> Oid {
        self.relation
    }

    /// What reads the rows that are asked for by a key or an index.
    async fn by_value(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
    ) -> PlanResult<Option<Arc<dyn ExecutionPlan>>> {
        let is_nested = || self.schema.fields().iter().any(|field| field.data_type().is_nested());
        match &self.snapshot {
            Some(snapshot) if !self.searched.is_empty() && !is_nested() => {
                let asked = (projection, filters);
                snapshot.scan_by_value(session, &self.schema, &self.searched, asked).await
            }
            _ => Ok(None),
        }
    }

    /// Whether it is about values that a log or a file may tell wrongly.
    fn touches_inexact(&self, filter: &Expr) -> bool {
        filter.column_refs().iter().any(|column| {
            (self.schema.field_with_name(&column.name))
                .is_ok_and(|it| it.data_type().is_floating() || !is_exact_in_log(it.data_type()))
        })
    }
}

/// What the files of `relation` are searched by, as `schema` names it.
fn searched(relation: &Relation, schema: &Schema) -> Vec<Searched> {
    let named = |id: &u32| {
        let id = id.to_string();
        let is_it = |field: &&Arc<Field>| field.metadata().get(COLUMN_ID_KEY) == Some(&id);
        schema.fields().iter().find(is_it).map(|field| field.name().clone())
    };
    let of = |key: &Key| {
        let columns = key.columns.iter().map(named).collect::<Option<Vec<_>>>()?;
        Some(Searched { columns, is_unique: key.kind != KeyKind::Index })
    };
    relation.searched().iter().filter_map(of).collect()
}

/// Whether a list in it is longer than the scan below takes: delta-rs makes an `OR` of each item,
/// one within the other, and overflows the stack on the way down. Above it is one look-up.
fn is_long(filter: &Expr) -> bool {
    const LONGEST_LIST: usize = 1000;
    let long = |it: &Expr| matches!(it, Expr::InList(it) if it.list.len() > LONGEST_LIST);
    filter.exists(|it| Ok(long(it))).unwrap_or(true)
}

/// The scan's schema (whose types may be views of the declared ones) with the declared fields'
/// metadata: the ids and declared types of columns.
fn declared(scan: &Schema, table: &Schema) -> SchemaRef {
    let fields = scan.fields().iter().map(|field| -> Field {
        let metadata = table.field_with_name(field.name()).map(|it| it.metadata().clone());
        field.as_ref().clone().with_metadata(metadata.unwrap_or_default())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
