//! `kho.hash` and `kho.pseudonym`: a text in place of another, which nobody can turn back without
//! the warehouse's key.
//!
//! What it guarantees: the same text gives the same hash; a pseudonym is the same within a purpose
//! and another in each other one, so that data used for two purposes cannot be joined by it. A NULL
//! stays NULL. Only masks can call them: who could call them as they like would find the text of a
//! hash by trying.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

use crate::scope::Scope;

/// What masks call the functions by: no user can write these names.
pub(crate) const HASH: &str = "\u{1}hash";
pub(crate) const PSEUDONYM: &str = "\u{1}pseudonym";

/// So many hexadecimal digits, 128 bits, are shown.
const DIGITS: usize = 32;

pub(super) fn functions(scope: &Scope) -> Vec<Arc<ScalarUDF>> {
    let purpose = scope.settings.get("kho.purpose").unwrap_or_default().to_owned();
    vec![
        keyed(scope, HASH, "mask".to_owned()),
        keyed(scope, PSEUDONYM, format!("purpose {purpose}")),
    ]
}

/// The keyed hash of a text, apart from every other use of the key.
fn keyed(scope: &Scope, name: &str, context: String) -> Arc<ScalarUDF> {
    let ledger = scope.shared.ledger.clone();
    let body = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let [values] = arrays.as_slice() else { return exec_err!("one text is needed") };
        let values = arrow::compute::cast(values, &DataType::Utf8)?;
        let hashed = |value: &str| {
            let mut hash = ledger.keys().keyed_hash(&context, value);
            hash.truncate(DIGITS);
            hash
        };
        let hashed: StringArray =
            values.as_string::<i32>().iter().map(|value| value.map(hashed)).collect();
        Ok(ColumnarValue::Array(Arc::new(hashed)))
    };
    let text = vec![DataType::Utf8];
    Arc::new(create_udf(name, text, DataType::Utf8, Volatility::Stable, Arc::new(body)))
}
