//! The rows that an `INSERT … ON CONFLICT` proposes, run once where they are few.
//!
//! # Why
//! Joined to the table as they are, a few rows would be looked for in every file. Known beforehand,
//! they are looked for by statistics and bloom filters, and only files that may hold one are read.

use std::sync::Arc;

use datafusion::datasource::MemTable;
use futures::StreamExt;
use kho_catalog::error::Result;
use kho_catalog::table::{KEPT_KEYS, Snapshot};

use super::PROPOSED;
use crate::authorize::authorize;
use crate::bind::{Bound, Extra};
use crate::errors::from_engine;
use crate::execute;
use crate::scope::Scope;
use crate::write::keys::few;

/// Rows, and the columns by which the table's are looked for.
pub(crate) struct Proposed {
    pub bound: Bound,
    pub key: Vec<String>,
}

impl Proposed {
    /// Where the rows are few, puts them into `extra` as they are, and gives the files of
    /// `snapshot` that may hold one of their keys; `None` is all files.
    pub(crate) async fn narrow(
        self,
        scope: &Scope,
        snapshot: &Snapshot,
        extra: &mut Extra,
    ) -> Result<Option<Vec<usize>>> {
        let Proposed { bound, key } = self;
        let plan = authorize(scope, bound)?;
        let mut rows = execute::stream(&plan).await?;
        let (schema, mut batches, mut count) = (rows.schema(), Vec::new(), 0);
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(from_engine)?;
            count += batch.num_rows();
            if count > KEPT_KEYS {
                return Ok(None);
            }
            batches.push(batch);
        }
        let files = match batches.is_empty() {
            true => Vec::new(),
            false => {
                let names: Vec<&str> = key.iter().map(String::as_str).collect();
                let keys = few::whole(&names, &batches)?;
                match keys.num_rows() {
                    // NULLs conflict with nothing.
                    0 => Vec::new(),
                    _ => {
                        snapshot
                            .files_holding(plan.session().as_ref(), &few::filters(&keys)?)
                            .await?
                    }
                }
            }
        };
        let table = MemTable::try_new(schema, vec![batches]).map_err(from_engine)?;
        extra.retain(|(name, _)| name != PROPOSED);
        extra.push((PROPOSED.to_owned(), Arc::new(table)));
        Ok(Some(files))
    }
}
