//! The least and the greatest values of files, as far as a table's log can be believed.
//!
//! # Why
//! Whoever writes the log with delta-rs cuts a moment's fraction off behind the millisecond, and writes a
//! decimal as a floating-point number: the greatest value of a file can then be less than what is in it,
//! and the least one more. A file that is passed over by such a bound is a row that is not found, not
//! removed, or there twice.
//! What it guarantees: bounds that are given enclose all values of their file.
//! What it does not: none are given of decimals with more digits than such a number keeps.

use std::collections::HashSet;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::kernels::numeric::add;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use deltalake_core::kernel::EagerSnapshot;

/// Decimal digits that a 64-bit floating-point number keeps.
const DIGITS: u8 = 15;
/// What is cut off at most.
const CUT_MICROSECONDS: i64 = 999;

/// Those of a snapshot's files.
pub(super) struct Bounds<'a>(pub &'a EagerSnapshot);

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.0.min_values(column).filter(|values| is_exact(values.data_type()))
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        let values = self.0.max_values(column).filter(|values| is_exact(values.data_type()))?;
        let DataType::Timestamp(unit, _) = values.data_type() else { return Some(values) };
        let cut = match unit {
            TimeUnit::Second | TimeUnit::Millisecond => return Some(values),
            TimeUnit::Microsecond => ScalarValue::DurationMicrosecond(Some(CUT_MICROSECONDS)),
            TimeUnit::Nanosecond => {
                ScalarValue::DurationNanosecond(Some(CUT_MICROSECONDS * 1000 + 999))
            }
        };
        // Where there is no later moment, nothing is known.
        add(&values, &cut.to_scalar().ok()?).ok()
    }

    fn num_containers(&self) -> usize {
        self.0.num_containers()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.0.null_counts(column)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        self.0.row_counts()
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Whether the log has the values as they are, but for what is cut off from moments.
pub fn is_exact(data_type: &DataType) -> bool {
    match data_type {
        DataType::Decimal128(precision, _) | DataType::Decimal256(precision, _) => {
            *precision <= DIGITS
        }
        _ => true,
    }
}
