//! Reading a table in the order of a number that its files were written by.
//!
//! What it is: for tables whose files each hold one run of numbers of one group, as the sealed
//! ledger's do: the files of a group, least number first, read one after another.
//! What it guarantees: files that the log's statistics prove to hold nothing of use are not read.
//! What it does not: it sorts nothing. Where a file holds several groups, or two files share a range
//! (another program has rewritten them), rows come in another order, and whoever reads must look.

use std::collections::HashMap;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::common::pruning::PruningStatistics;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;

use super::Snapshot;
use super::files::{FileScan, ScanFile};
use super::snapshot::join;
use crate::error::{Error, Kind, Result};

impl Snapshot {
    /// The rows of the files that may hold rows of `group` (a column of texts, and its value) with
    /// a number (a column of whole numbers, and the least that is wanted) not below it.
    pub async fn in_order(
        &self,
        group: (&str, &str),
        number: (&str, i64),
    ) -> Result<SendableRecordBatchStream> {
        self.refuse_foreign_layout()?;
        let folder = self.location().path();
        let eager = self.eager();
        let texts = |bounds: Option<arrow::array::ArrayRef>| {
            bounds.and_then(|it| cast(&it, &DataType::Utf8).ok())
        };
        let numbers = |bounds: Option<arrow::array::ArrayRef>| {
            bounds.and_then(|it| cast(&it, &DataType::Int64).ok())
        };
        let (group_column, number_column) =
            (Column::from_name(group.0), Column::from_name(number.0));
        let groups_least = texts(eager.min_values(&group_column));
        let groups_greatest = texts(eager.max_values(&group_column));
        let least = numbers(eager.min_values(&number_column));
        let greatest = numbers(eager.max_values(&number_column));
        let text = |of: &Option<arrow::array::ArrayRef>, at: usize| {
            let of = of.as_ref()?.as_string_opt::<i32>()?;
            (at < of.len() && of.is_valid(at)).then(|| of.value(at).to_owned())
        };
        let whole = |of: &Option<arrow::array::ArrayRef>, at: usize| {
            let of = of.as_ref()?.as_primitive_opt::<Int64Type>()?;
            (at < of.len() && of.is_valid(at)).then(|| of.value(at))
        };
        let mut files: Vec<(i64, ScanFile)> = Vec::new();
        for (at, file) in eager.log_data().iter().enumerate() {
            let below = text(&groups_greatest, at).is_some_and(|it| it.as_str() < group.1);
            let above = text(&groups_least, at).is_some_and(|it| it.as_str() > group.1);
            let before = whole(&greatest, at).is_some_and(|it| it < number.1);
            if below || above || before {
                continue;
            }
            let path = join(&folder, file.path().as_ref());
            let size_bytes = u64::try_from(file.size()).unwrap_or_default();
            let (index, constants) = (at as u64, HashMap::new());
            let file = ScanFile { path, size_bytes, index, constants };
            files.push((whole(&least, at).unwrap_or(i64::MIN), file));
        }
        files.sort_by_key(|(least, _)| *least);
        let files = files.into_iter().map(|(_, file)| file).collect();
        let scan = FileScan::new(self.log_store().root_object_store(None), self.schema(), files);
        let config = SessionConfig::new().with_target_partitions(1);
        let session = SessionStateBuilder::new().with_config(config).build();
        let unreadable =
            |error| Error::new(Kind::Io, "the table could not be read").with_source(error);
        let plan = scan.scan(&session, None, &[], None).await.map_err(unreadable)?;
        execute_stream(plan, session.task_ctx()).map_err(unreadable)
    }
}
