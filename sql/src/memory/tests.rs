//! The limits of statements, and what a killed server left.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Kind};

use super::{Memory, STATEMENT, TOTAL, expanding};
use crate::engine::Limits;
use crate::errors::{from_engine, with_setting};

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

fn spilling(name: &str, pool: &Arc<dyn MemoryPool>) -> MemoryReservation {
    MemoryConsumer::new(name).with_can_spill(true).register(pool)
}

/// Two that can spill have half of three quarters each: the first does not starve the second.
#[test]
fn operators_that_spill_share_a_statement() {
    let pool = Memory::open(&limits()).unwrap().statement().memory_pool.clone();
    let (one, two) = (spilling("one", &pool), spilling("two", &pool));
    one.try_grow(3 * MEBIBYTE / 4).unwrap();
    let refused = message(&one.try_grow(1).unwrap_err());
    assert!(refused.starts_with(STATEMENT), "{refused}");
    assert!(refused.contains("768.0 KB of the 768.0 KB"), "{refused}");
    two.try_grow(3 * MEBIBYTE / 4).unwrap();
    drop(two);
    one.try_grow(3 * MEBIBYTE / 4).unwrap();
    assert_eq!(pool.reserved(), 3 * MEBIBYTE / 2);
}

/// The merges of two sorts get their parts, however much the gathering takes, and the other way.
#[test]
fn a_sort_and_its_merge_do_not_starve_each_other() {
    let pool = Memory::open(&limits()).unwrap().statement().memory_pool.clone();
    let sorts = ["ExternalSorter[0]", "ExternalSorter[1]"].map(|name| spilling(name, &pool));
    let merges = ["ExternalSorterMerge[0]", "ExternalSorterMerge[1]"]
        .map(|name| MemoryConsumer::new(name).register(&pool));
    let part = 3 * MEBIBYTE / 4 / 4 * 2;
    for merge in &merges {
        merge.try_grow(part).unwrap();
        assert!(merge.try_grow(1).is_err(), "a merge takes no more than its part");
    }
    for sort in &sorts {
        sort.try_grow(part).unwrap();
        assert!(sort.try_grow(1).is_err(), "and leaves the others theirs");
    }
}

/// A quarter is there for what cannot spill; what sharers do not hold is, too, and then is not theirs.
#[test]
fn what_cannot_spill_has_a_quarter_and_what_is_left() {
    let pool = Memory::open(&limits()).unwrap().statement().memory_pool.clone();
    let (sort, join) = (spilling("sort", &pool), MemoryConsumer::new("join").register(&pool));
    sort.try_grow(3 * MEBIBYTE / 2).unwrap();
    join.try_grow(MEBIBYTE / 2).unwrap();
    assert!(join.try_grow(1).is_err());
    sort.free();
    join.try_grow(MEBIBYTE).unwrap();
    sort.try_grow(MEBIBYTE / 2).unwrap();
    assert!(sort.try_grow(1).is_err());
    join.free();
    sort.try_grow(MEBIBYTE).unwrap();
}

/// Each of many is refused beyond its part and never before, whatever the others do; the books
/// agree at the end.
#[test]
fn nobody_is_refused_within_its_part() {
    let limits = Limits { memory_bytes: 1 << 30, query_memory_bytes: 64 << 20, ..limits() };
    let pool = Memory::open(&limits).unwrap().statement().memory_pool.clone();
    let sharers: Vec<_> = (0..48).map(|_| spilling("sharer", &pool)).collect();
    std::thread::scope(|scope| {
        for sharer in &sharers {
            scope.spawn(move || {
                for _ in 0..100 {
                    while sharer.size() < MEBIBYTE {
                        sharer.try_grow(MEBIBYTE / 16).unwrap();
                    }
                    sharer.try_grow(1).unwrap_err();
                    sharer.free();
                }
            });
        }
    });
    assert_eq!(pool.reserved(), 0);
}

/// Maintenance has one setting, and its refusals name it.
#[test]
fn a_refusal_names_the_setting_to_raise() {
    let statement = Memory::open(&limits()).unwrap();
    let limits = Limits { query_memory_bytes: 3 * MEBIBYTE, ..limits() };
    let maintenance = Memory::for_maintenance(&limits).unwrap();
    let hint = |memory: &Memory| {
        let runtime = memory.statement();
        let held = MemoryConsumer::new("sort").register(&runtime.memory_pool);
        let refused = held.try_grow(4 * MEBIBYTE).unwrap_err();
        let direct = from_engine(refused.context("while sorting"));
        assert_eq!(direct.kind(), Kind::OutOfMemory);
        let refused = held.try_grow(4 * MEBIBYTE).unwrap_err();
        let below = Error::new(Kind::OutOfMemory, "not sorted").with_source(refused);
        let below = with_setting(below);
        assert_eq!(below.hint(), direct.hint());
        direct.hint().unwrap().to_owned()
    };
    let total =
        "Make the statement smaller, try again when less is running, or raise limits.memory_bytes.";
    assert_eq!(hint(&statement), total);
    assert_eq!(hint(&maintenance), "Raise maintenance.memory_bytes.");
    let held = MemoryConsumer::new("sort").register(&statement.statement().memory_pool);
    let refused = from_engine(held.try_grow(5 * MEBIBYTE / 2).unwrap_err());
    let hint = "Make the statement smaller, or raise limits.query_memory_bytes.";
    assert_eq!(refused.hint(), Some(hint));
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
