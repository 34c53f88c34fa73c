//! Which rows of which files a statement touches.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use kho_catalog::error::{Error, Result};
use kho_catalog::table::{FILE_COLUMN, ROW_COLUMN};
use roaring::RoaringTreemap;

/// Rows by file: a compressed bitmap each.
#[derive(Default)]
pub(super) struct Positions {
    files: BTreeMap<u64, RoaringTreemap>,
}

impl Positions {
    /// Notes the rows of `batch` and says which of them were not noted before. A row that a join
    /// found twice is touched once, as in PostgreSQL.
    pub(super) fn note(&mut self, batch: &RecordBatch) -> Result<BooleanArray> {
        let (files, rows) = places(batch)?;
        let first = (files.iter().zip(rows))
            .map(|(file, row)| self.files.entry(*file).or_default().insert(*row));
        Ok(first.map(Some).collect())
    }

    /// Which rows of `batch` were not noted.
    pub(super) fn others(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let (files, rows) = places(batch)?;
        let other = |(file, row): (&u64, &u64)| {
            Some(!self.files.get(file).is_some_and(|noted| noted.contains(*row)))
        };
        Ok(files.iter().zip(rows).map(other).collect())
    }

    /// The files with a noted row.
    pub(super) fn files(&self) -> Vec<usize> {
        self.files.keys().filter_map(|file| usize::try_from(*file).ok()).collect()
    }
}

fn places(batch: &RecordBatch) -> Result<(&[u64], &[u64])> {
    let column = |name: &str| {
        let column = batch.column_by_name(name);
        let values = column.and_then(|it| it.as_primitive_opt::<UInt64Type>());
        match values {
            Some(values) if values.null_count() == 0 => Ok(values.values().as_ref()),
            _ => Err(Error::internal("a row to be changed has no place")),
        }
    };
    Ok((column(FILE_COLUMN)?, column(ROW_COLUMN)?))
}
