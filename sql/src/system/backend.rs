//! `pg_cancel_backend`: PostgreSQL's way to say `CALL kho.cancel`.
//!
//! What it guarantees: it is called once for each row, when the query runs and not when it is
//! planned; it reaches the sessions that `pg_stat_activity` shows.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Int64Array};
use arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::common::cast::as_int64_array;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

use crate::activity::SessionEntry;
use crate::errors::to_engine;
use crate::scope::Scope;

pub(super) fn cancel(scope: &Scope) -> Arc<ScalarUDF> {
    let (activity, state) = (scope.shared.activity.clone(), Arc::clone(&scope.state));
    let who = scope.who.clone();
    let body = move |arguments: &[ColumnarValue]| {
        who.refuse_change().map_err(to_engine)?;
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let [process_ids] = arrays.as_slice() else {
            return Err(DataFusionError::Plan("pg_cancel_backend takes one number".to_owned()));
        };
        let process_ids: &Int64Array = as_int64_array(process_ids)?;
        // PostgreSQL warns of a number that is no session's, and says false.
        let stop = |process_id: i64| {
            let is = |it: &SessionEntry| i64::from(it.process_id) == process_id;
            activity.cancel(&state, &who, is).unwrap_or(false)
        };
        let stopped: BooleanArray = process_ids.iter().map(|it| it.map(stop)).collect();
        Ok(ColumnarValue::Array(Arc::new(stopped) as Arc<dyn Array>))
    };
    Arc::new(create_udf(
        "pg_cancel_backend",
        // The planner takes a number without a type for a long one.
        vec![DataType::Int64],
        DataType::Boolean,
        Volatility::Volatile,
        Arc::new(body),
    ))
}
