//! The limits of statements, and what a killed server left.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use datafusion::scalar::ScalarValue;

use super::{Memory, STATEMENT, TOTAL, expanding};
use crate::engine::Limits;

const MEBIBYTE: usize = 1 << 20;

fn limits() -> Limits {
    Limits { memory_bytes: 3 * MEBIBYTE, query_memory_bytes: 2 * MEBIBYTE, ..Limits::default() }
}

fn message(error: &DataFusionError) -> String {
    match error {
        DataFusionError::ResourcesExhausted(message) => message.clone(),
        other => panic!("an operator would not spill on {other:?}"),
    }
}

#[test]
fn a_statement_has_its_own_limit_and_shares_the_servers() {
    let memory = Memory::open(&limits()).unwrap();
    let (one, two) = (memory.statement().memory_pool.clone(), memory.statement());
    let first = MemoryConsumer::new("one").register(&one);
    first.try_grow(2 * MEBIBYTE).unwrap();
    let refused = message(&first.try_grow(1).unwrap_err());
    assert!(refused.starts_with(STATEMENT), "{refused}");
    let second = MemoryConsumer::new("two").register(&two.memory_pool);
    second.try_grow(MEBIBYTE).unwrap();
    let refused = message(&second.try_grow(1).unwrap_err());
    assert!(refused.starts_with(TOTAL), "{refused}");
    drop(first);
    second.try_grow(MEBIBYTE).unwrap();
    drop(second);
    let used = memory.total.used_bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((one.reserved(), used), (0, 0));
}

/// Two that can spill have half each, so that the first does not starve the second.
#[test]
fn operators_that_spill_share_a_statement() {
    let memory = Memory::open(&limits()).unwrap();
    let pool = memory.statement().memory_pool.clone();
    let spilling = |name: &str| MemoryConsumer::new(name).with_can_spill(true).register(&pool);
    let (one, two) = (spilling("one"), spilling("two"));
    one.try_grow(MEBIBYTE).unwrap();
    assert!(one.try_grow(1).is_err());
    two.try_grow(MEBIBYTE).unwrap();
}

#[test]
fn what_a_killed_server_left_is_removed_and_nothing_else() {
    let folder = std::env::temp_dir().join(format!("kho-test-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(folder.join("datafusion-old")).unwrap();
    std::fs::write(folder.join("datafusion-old").join("rows"), "a person's data").unwrap();
    std::fs::write(folder.join("datafusion.txt"), "somebody else's").unwrap();
    let limits = Limits { spill_directory: Some(folder.clone()), ..limits() };
    let memory = Memory::open(&limits).unwrap();
    assert!(!folder.join("datafusion-old").exists());
    assert!(folder.join("datafusion.txt").exists());
    let made = memory.planning().disk_manager.temp_dir_paths();
    assert!(made.iter().all(|it| it.starts_with(&folder) && it.exists()), "{made:?}");
    drop(memory);
    assert!(made.iter().all(|it| !it.exists()), "a server that ends leaves nothing");
    std::fs::remove_dir_all(folder).unwrap();
}

/// What the bounded function `name` says to `args`; the limit is 1,000 bytes.
fn call(name: &str, args: Vec<ColumnarValue>, rows: usize) -> Result<(), String> {
    let mut state = SessionStateBuilder::new().with_default_features().build();
    expanding::install(&mut state, 1000).unwrap();
    let function = state.scalar_functions().get(name).unwrap().clone();
    let types: Vec<DataType> = args.iter().map(ColumnarValue::data_type).collect();
    let arg_fields = types.iter().map(|of| Arc::new(Field::new("", of.clone(), true))).collect();
    let return_type = function.return_type(&types).unwrap();
    let args = ScalarFunctionArgs {
        args,
        arg_fields,
        number_rows: rows,
        return_field: Arc::new(Field::new("", return_type, true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    function.invoke_with_args(args).map(|_| ()).map_err(|error| message(&error))
}

fn text(value: &str) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::from(value))
}

fn number(value: i64) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::from(value))
}

fn texts(values: &[&str]) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(StringArray::from(values.to_vec())) as ArrayRef)
}

#[test]
fn functions_that_make_much_of_little_are_bounded() {
    assert_eq!(call("repeat", vec![text("ab"), number(500)], 1), Ok(()));
    assert!(call("repeat", vec![text("ab"), number(501)], 1).is_err());
    assert!(call("repeat", vec![text("x"), number(i64::MAX)], 1).is_err());
    assert_eq!(call("repeat", vec![text("x"), number(-1)], 1), Ok(()));
    // What one row may give, a batch may not.
    assert_eq!(call("repeat", vec![texts(&["x", "y"]), number(500)], 2), Ok(()));
    assert!(call("repeat", vec![texts(&["x", "y", "z"]), number(500)], 3).is_err());
    assert!(call("lpad", vec![text("x"), number(1_000_000)], 1).is_err());
    assert_eq!(call("replace", vec![text("aaaa"), text("a"), text("bb")], 1), Ok(()));
    let long = "b".repeat(900);
    assert!(call("replace", vec![text("aaaa"), text("a"), text(&long)], 1).is_err());
    assert_eq!(call("generate_series", vec![number(1), number(100)], 1), Ok(()));
    assert!(call("generate_series", vec![number(1), number(1_000_000_000)], 1).is_err());
    let counts: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(2000)]));
    assert!(call("range", vec![ColumnarValue::Array(counts)], 3).is_err());
}
