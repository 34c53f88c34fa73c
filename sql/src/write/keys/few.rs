//! The keys of a few rows, held in memory and looked for among many.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::catalog::TableProvider;
use datafusion::common::Column as PlanColumn;
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_plan::execute_stream;
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use kho_catalog::error::{Error, Result};

use super::Checked;
use crate::errors::{from_arrow, from_engine};
use crate::memory::task_context;
use crate::write::conform::cast;

/// How often a key may be met where it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Never,
    Once,
}

/// Keys without a NULL, each with its place in `batch`.
pub(super) struct Keys {
    batch: RecordBatch,
    converter: RowConverter,
    /// The last place of each key; a key that is there twice is also among the twins.
    places: HashMap<OwnedRow, usize>,
    twin: Option<usize>,
}

impl Keys {
    /// The keys of `batches`, which have the columns of the key among others.
    pub(super) fn new(checked: &Checked<'_>, batches: &[RecordBatch]) -> Result<Keys> {
        let batch = whole(&checked.names(), batches)?;
        let fields = batch.schema();
        let fields = fields.fields().iter().map(|it| SortField::new(it.data_type().clone()));
        let converter = RowConverter::new(fields.collect()).map_err(|it| from_arrow(&it))?;
        let mut keys = Keys { batch, converter, places: HashMap::new(), twin: None };
        let rows = keys.converter.convert_columns(keys.batch.columns());
        for (place, row) in rows.map_err(|it| from_arrow(&it))?.iter().enumerate() {
            if keys.places.insert(row.owned(), place).is_some() {
                keys.twin.get_or_insert(place);
            }
        }
        Ok(keys)
    }

    /// That no key is there twice.
    pub(super) fn refuse_twins(&self, checked: &Checked<'_>) -> Result<()> {
        match self.twin {
            Some(place) => Err(checked.violation(&self.batch, place)?),
            None => Ok(()),
        }
    }

    /// That none of the keys is among `others`, which have the columns of the key among theirs.
    pub(super) fn refuse_among(&self, checked: &Checked<'_>, others: &[RecordBatch]) -> Result<()> {
        if others.is_empty() || self.places.is_empty() {
            return Ok(());
        }
        match self.places_of(&whole(&checked.names(), others)?)?.first() {
            Some(place) => Err(checked.violation(&self.batch, *place)?),
            None => Ok(()),
        }
    }

    /// That none of the keys is among `rows` more often than expected.
    pub(super) async fn look_up(
        &self,
        checked: &Checked<'_>,
        rows: &Arc<dyn TableProvider>,
        expected: Expected,
    ) -> Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let schema = rows.schema();
        let place = |name: &&str| schema.index_of(name).map_err(|it| from_arrow(&it));
        let projection = checked.names().iter().map(place).collect::<Result<Vec<_>>>()?;
        let filters = filters(&self.batch)?;
        let session = checked.session;
        let scan = rows.scan(session, Some(&projection), &filters, None).await;
        let mut found = execute_stream(scan.map_err(from_engine)?, task_context(session))
            .map_err(from_engine)?;
        let mut met = vec![false; self.batch.num_rows()];
        while let Some(batch) = found.next().await {
            for place in self.places_of(&batch.map_err(from_engine)?)? {
                let known = met.get_mut(place).map(|met| std::mem::replace(met, true));
                if expected == Expected::Never || known != Some(false) {
                    return Err(checked.violation(&self.batch, place)?);
                }
            }
        }
        Ok(())
    }

    /// The places of those keys that are in `batch`.
    fn places_of(&self, batch: &RecordBatch) -> Result<Vec<usize>> {
        let columns = (batch.columns().iter().zip(self.batch.columns()))
            .map(|(column, key)| cast(column, key.data_type()))
            .collect::<Result<Vec<_>>>()?;
        let rows = self.converter.convert_columns(&columns).map_err(|it| from_arrow(&it))?;
        Ok(rows.iter().filter_map(|row| self.places.get(&row.owned()).copied()).collect())
    }
}

/// What every row with one of `keys` fulfils: each column is one of its values in the keys, and
/// within their range, which prunes where a long list does not.
pub(crate) fn filters(keys: &RecordBatch) -> Result<Vec<Expr>> {
    let mut filters = Vec::new();
    for (field, values) in keys.schema().fields().iter().zip(keys.columns()) {
        let column = || Expr::Column(PlanColumn::from_name(field.name()));
        let values = distinct(values)?;
        match values.as_slice() {
            [] => {}
            [value] => filters.push(column().eq(lit(value.clone()))),
            [least, .., greatest] => {
                filters.push(column().gt_eq(lit(least.clone())));
                filters.push(column().lt_eq(lit(greatest.clone())));
                filters.push(column().in_list(values.iter().cloned().map(lit).collect(), false));
            }
        }
    }
    Ok(filters)
}

/// The columns `names` of all rows that have no NULL in them, in one batch.
pub(crate) fn whole(names: &[&str], batches: &[RecordBatch]) -> Result<RecordBatch> {
    let mut parts = Vec::with_capacity(batches.len());
    for batch in batches {
        let place = |name: &&str| batch.schema().index_of(name).map_err(|it| from_arrow(&it));
        let places = names.iter().map(place).collect::<Result<Vec<_>>>()?;
        let keys = batch.project(&places).map_err(|it| from_arrow(&it))?;
        let is_whole = |row: usize| keys.columns().iter().all(|column| column.is_valid(row));
        let complete: BooleanArray = (0..keys.num_rows()).map(|row| Some(is_whole(row))).collect();
        parts.push(filter_record_batch(&keys, &complete).map_err(|it| from_arrow(&it))?);
    }
    let Some(schema) = parts.first().map(RecordBatch::schema) else {
        return Err(Error::internal("rows were staged without their keys"));
    };
    concat_batches(&schema, &parts).map_err(|it| from_arrow(&it))
}

/// The values of a column, each once, in order.
fn distinct(column: &ArrayRef) -> Result<Vec<ScalarValue>> {
    let mut values = (0..column.len())
        .map(|row| ScalarValue::try_from_array(column, row).map_err(from_engine))
        .collect::<Result<Vec<_>>>()?;
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
    values.dedup();
    Ok(values)
}
