//! The only tables that plans are made of.
//!
//! What it is: a table as one role may see it. Today that is all its rows; row policies, masks and
//! the barrier that keeps a query's predicates behind them have their place here.
//! What it guarantees: it gives no inner plan away, answers no statistics of its own, and refuses
//! to be written through. A predicate on a float column is not handed to the files: their
//! statistics pass `NaN` over, so a file that holds one would be skipped. Every predicate is
//! evaluated above the scan, whatever the files below made of it.
//! What it does not: it does not decide who may read; `authorize` does, before anything runs.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as PlanResult;
use datafusion::common::tree_node::TreeNode as _;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableSource, TableType};
use datafusion::physical_plan::ExecutionPlan;
use kho_catalog::error::Result;
use kho_catalog::state::{Oid, Relation};
use kho_catalog::table::{Snapshot, TableSize};

/// `relation` at the version of `snapshot`.
pub(crate) async fn table(
    relation: &Relation,
    snapshot: &Snapshot,
) -> Result<Arc<dyn TableProvider>> {
    let inner = snapshot.provider().await?;
    let schema = declared(&inner.schema(), &snapshot.schema());
    Ok(Arc::new(SecuredTable {
        relation: relation.oid,
        version: snapshot.version(),
        schema,
        inner,
        snapshot: Some(snapshot.clone()),
    }))
}

/// The relation that `source` is, in whatever form; `None` where it is none of the catalog's.
pub(crate) fn relation_of(source: &Arc<dyn TableSource>) -> Option<Oid> {
    let provider = source_as_provider(source).ok()?;
    let table: &dyn Any = provider.as_ref();
    table.downcast_ref::<SecuredTable>().map(|table| table.relation)
}

/// How large the table behind `source` is, for the order of joins; `None` where it is no table. A
/// table whose rows are not all to be seen must not tell it: the order shows in `EXPLAIN`.
pub(crate) fn size_of(source: &Arc<dyn TableSource>) -> Option<Arc<TableSize>> {
    let provider = source_as_provider(source).ok()?;
    let table: &dyn Any = provider.as_ref();
    table.downcast_ref::<SecuredTable>()?.snapshot.as_ref().map(Snapshot::size)
}

/// Rows that are not a table's own but follow its rules: its changes.
pub(crate) fn derived(
    relation: &Relation,
    version: u64,
    inner: Arc<dyn TableProvider>,
) -> Arc<dyn TableProvider> {
    let schema = inner.schema();
    Arc::new(SecuredTable { relation: relation.oid, version, schema, inner, snapshot: None })
}

#[derive(Debug)]
struct SecuredTable {
    relation: Oid,
    version: u64,
    schema: SchemaRef,
    inner: Arc<dyn TableProvider>,
    snapshot: Option<Snapshot>,
}

#[async_trait::async_trait]
impl TableProvider for SecuredTable {
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
            if filter.column_refs().is_empty() || self.touches_float(filter) || is_long(filter) {
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
        self.inner.scan(session, projection, filters, limit).await
    }
}

impl SecuredTable {
    fn touches_float(&self, filter: &Expr) -> bool {
        filter.column_refs().iter().any(|column| {
            (self.schema.field_with_name(&column.name)).is_ok_and(|it| it.data_type().is_floating())
        })
    }
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
